-- Recovery: what is set aside, and what was driven again.

-- Orders whose message was set aside as a dead letter because it kills whoever works on it, or because Postgres refuses
-- its values. Marked before the letter is written: the reconciler leaves these orders alone, and what they hold stays
-- held until the letter is replayed or discarded. Empty unless something is wrong.
CREATE TABLE parked (
    order_id  bigint PRIMARY KEY,
    -- Where it was set aside: that stage is the next one when it goes on.
    stage     text NOT NULL CHECK (stage IN ('payment', 'settlement')),
    reason    text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now()
);

-- What the reconciler found and did; a sweep that found nothing leaves no row.
CREATE TABLE reconciliations (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at    timestamptz NOT NULL,
    finished_at   timestamptz NOT NULL DEFAULT now(),
    cause         text   NOT NULL CHECK (cause IN ('messages_lost', 'letters_lost', 'postgres_restored')),
    -- Orders that were given a new message, by the stage that it is for.
    to_payment    bigint NOT NULL DEFAULT 0,
    to_settlement bigint NOT NULL DEFAULT 0,
    -- For people: the first few order codes, or what else was found.
    detail        text   NOT NULL
);

-- A parked order may be given up by an operator who discards its letter.
ALTER TABLE orders DROP CONSTRAINT orders_failure_reason_check;
ALTER TABLE orders ADD CONSTRAINT orders_failure_reason_check CHECK (failure_reason IN
    ('unknown_customer', 'unknown_product', 'out_of_stock', 'payment_declined', 'payment_expired', 'abandoned')) NOT VALID;
ALTER TABLE orders VALIDATE CONSTRAINT orders_failure_reason_check;
