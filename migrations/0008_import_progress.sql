-- How far an import is, for who watches from another process.

ALTER TABLE imports
    -- Within the status: bytes of the file while it is read, then orders. Null where that is not known.
    ADD COLUMN position bigint,
    -- Where the position ends.
    ADD COLUMN length   bigint,
    -- When the importer last said anything: it does every few seconds, whatever it waits for.
    ADD COLUMN noted_at timestamptz;
