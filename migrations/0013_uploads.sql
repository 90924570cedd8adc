-- Imports whose process vanished are noticed, uploads go on after a restart, and lists of orders are sorted by time.

ALTER TABLE imports
    -- The process that imports, by a name that no other has. Null where an older version imports.
    ADD COLUMN holder       text,
    -- The file of an upload: its name in the folder of uploads. Null for files of the command line.
    ADD COLUMN upload       text,
    -- Orders whose rows name several customers are rejected.
    ADD COLUMN strict       boolean NOT NULL DEFAULT false,
    -- Set while an import is `interrupted` because its process vanished, or ended and left an upload behind: the status
    -- that it had. Whoever has the file may go on.
    ADD COLUMN abandoned_as text,
    ADD CONSTRAINT imports_abandoned_is_interrupted CHECK (abandoned_as IS NULL OR status = 'interrupted');
-- Few rows: looked through every few seconds.
CREATE INDEX imports_open ON imports (id) WHERE finished_at IS NULL;
CREATE INDEX imports_abandoned ON imports (id) WHERE abandoned_as IS NOT NULL;

-- An answer that began an import is given again unless that import failed.
ALTER TABLE idempotency_keys ADD COLUMN import_id bigint;

-- Ids come in blocks, one a worker: newest first is by time. Measured beside the rest of an insert, the rightmost page of
-- a B-tree costs less than a hundredth; it replaces the block-range index.
DROP INDEX orders_created_at;
CREATE INDEX orders_created_at ON orders (created_at, id);

-- Refunds are listed newest first, too.
CREATE INDEX refunds_created_at ON refunds (created_at DESC, key);
CREATE INDEX refunds_import_id ON refunds (import_id) WHERE import_id IS NOT NULL;
