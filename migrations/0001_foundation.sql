-- The foundation: what the pipeline knows. Postgres is the only truth; Redis can be rebuilt from these tables.
--
-- Three rules shape the schema:
--   * The database refuses what docs/STATES.md does not show (CHECK constraints, unique keys).
--   * No index covers a column that changes on an order's way (status, reserved, …), and pages keep room for the new
--     version of a row: every update on the hot path stays heap-only.
--   * No foreign keys between these tables: each costs a hidden query and a row mark per inserted row, and failed
--     orders must be able to name products and customers that do not exist. `orderstream audit` proves the references.

-- Facts about this installation that must not change under running workers. `partitions` is checked at every start.
CREATE TABLE settings (
    key   text PRIMARY KEY,
    value text NOT NULL
);
INSERT INTO settings (key, value) VALUES ('partitions', '1');

CREATE TABLE customers (
    id    bigint PRIMARY KEY CHECK (id > 0),
    name  text NOT NULL,
    email text NOT NULL
);

CREATE TABLE products (
    id               bigint PRIMARY KEY CHECK (id > 0),
    sku              text   NOT NULL UNIQUE,
    name             text   NOT NULL,
    unit_price_cents bigint NOT NULL CHECK (unit_price_cents >= 0),
    -- Pieces on hand. Settlement takes sold pieces away.
    stock            bigint NOT NULL CHECK (stock >= 0),
    -- Pieces on hand that open orders hold. An order in `reserved` or `paying` holds its lines; there are no rows of its own.
    reserved         bigint NOT NULL DEFAULT 0,
    -- Pieces ever taken into stock: stock + sold - returned. The audit's anchor for conservation.
    received         bigint NOT NULL,
    -- The last line of defence against overselling.
    CONSTRAINT products_never_oversold CHECK (reserved BETWEEN 0 AND stock)
) WITH (fillfactor = 50);

-- Products that other programs insert bring their first stock with them.
CREATE FUNCTION products_first_receipt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.received := coalesce(NEW.received, NEW.stock);
    RETURN NEW;
END $$;
CREATE TRIGGER products_first_receipt BEFORE INSERT ON products
    FOR EACH ROW EXECUTE FUNCTION products_first_receipt();

CREATE TABLE imports (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_name        text   NOT NULL,
    sha256           text,
    -- Data rows of the file, and how many of them were rejected with their order.
    rows             bigint NOT NULL DEFAULT 0,
    rejected         bigint NOT NULL DEFAULT 0,
    -- Orders published to the stream, and what became of them as far as the importer waited to see.
    orders           bigint NOT NULL DEFAULT 0,
    duplicates       bigint,
    conflicts        bigint,
    rejected_orders  bigint NOT NULL DEFAULT 0,
    status           text   NOT NULL DEFAULT 'reading'
                     CHECK (status IN ('reading', 'publishing', 'waiting', 'done', 'published', 'interrupted', 'failed')),
    started_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz
);

-- Ids are handed out in blocks: a worker draws one value and owns the thousand ids below it.
CREATE SEQUENCE order_id_blocks INCREMENT BY 1000 START WITH 1000;

CREATE TABLE orders (
    id             bigint   PRIMARY KEY,
    customer_id    bigint   NOT NULL,
    total_cents    bigint   NOT NULL CHECK (total_cents >= 0),
    refunded_cents bigint   NOT NULL DEFAULT 0 CHECK (refunded_cents BETWEEN 0 AND total_cents),
    -- Fingerprint of customer and lines: the same code with the same content is a duplicate, with other content a conflict.
    content_hash   bigint   NOT NULL,
    import_id      bigint,
    -- When the message entered the stream, by the clock of Redis.
    received_at    timestamptz NOT NULL,
    -- The UTC day of this instant is the order's day in KPIs and leaderboards.
    created_at     timestamptz NOT NULL DEFAULT now(),
    settled_at     timestamptz,
    partition      smallint NOT NULL,
    code           text     NOT NULL UNIQUE,
    status         text     NOT NULL CHECK (status IN ('reserved', 'paying', 'completed', 'failed')),
    failure_reason text     CHECK (failure_reason IN
                   ('unknown_customer', 'unknown_product', 'out_of_stock', 'payment_declined', 'payment_expired')),
    CONSTRAINT orders_reason_iff_failed CHECK ((status = 'failed') = (failure_reason IS NOT NULL)),
    CONSTRAINT orders_settled_iff_final CHECK ((status IN ('completed', 'failed')) = (settled_at IS NOT NULL)),
    CONSTRAINT orders_refund_iff_completed CHECK (refunded_cents = 0 OR status = 'completed')
) WITH (fillfactor = 80);
-- Block-range indexes cost next to nothing on insert: rows arrive in time order.
CREATE INDEX orders_created_at ON orders USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE order_lines (
    order_id         bigint   NOT NULL,
    product_id       bigint   NOT NULL,
    unit_price_cents bigint   NOT NULL CHECK (unit_price_cents >= 0),
    quantity         integer  NOT NULL CHECK (quantity > 0),
    -- 1, 2, … in the order's own sequence. The same product on two lines is two lines.
    line             smallint NOT NULL CHECK (line > 0),
    PRIMARY KEY (order_id, line)
);

CREATE TABLE payments (
    order_id     bigint   NOT NULL,
    amount_cents bigint   NOT NULL CHECK (amount_cents >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    attempt      smallint NOT NULL DEFAULT 1 CHECK (attempt > 0),
    status       text     NOT NULL CHECK (status IN ('pending', 'approved', 'declined', 'expired')),
    gateway      text     NOT NULL,
    PRIMARY KEY (order_id, attempt)
) WITH (fillfactor = 90);

CREATE TABLE refunds (
    key          text   PRIMARY KEY,
    order_id     bigint NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    status       text   NOT NULL CHECK (status IN ('pending', 'succeeded', 'refused', 'failed')),
    reason       text,
    restock      boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX refunds_order_id ON refunds (order_id);

-- Facts that change KPIs or notify somebody: gap-free, numbered in commit order. A transaction takes its numbers from
-- `event_counter` as its last lock and keeps it to the end, so nobody can see number n + 1 before n.
CREATE TABLE events (
    seq          bigint PRIMARY KEY,
    order_id     bigint NOT NULL,
    amount_cents bigint NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    kind         text   NOT NULL CHECK (kind IN ('completed', 'failed', 'refunded'))
);
CREATE INDEX events_order_id ON events USING brin (order_id) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE event_counter (
    id       smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    last_seq bigint   NOT NULL
) WITH (fillfactor = 10);
INSERT INTO event_counter (last_seq) VALUES (0);
