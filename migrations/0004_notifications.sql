-- Notifications: who is told of an event, by which way, and whether that has happened.

-- One row for each event and channel. They are made from `events`, in its order and exactly once: the watermark below
-- moves in the transaction that inserts them.
CREATE TABLE notifications (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The event's number.
    seq        bigint NOT NULL,
    order_id   bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When to try next, or until when whoever took it has it in hand; null once nothing more is tried.
    next_at    timestamptz DEFAULT now(),
    sent_at    timestamptz,
    -- Tries that the other side refused. One that found nobody there does not count.
    attempts   integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    kind       text   NOT NULL CHECK (kind IN ('completed', 'failed', 'refunded')),
    channel    text   NOT NULL CHECK (channel IN ('log', 'mail', 'webhook')),
    status     text   NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'dead')),
    -- For people: why the last try failed.
    last_error text,
    CONSTRAINT notifications_once UNIQUE (seq, channel),
    CONSTRAINT notifications_pending_is_due CHECK ((status = 'pending') = (next_at IS NOT NULL)),
    CONSTRAINT notifications_sent_has_time CHECK ((status = 'sent') = (sent_at IS NOT NULL)),
    CONSTRAINT notifications_dead_has_reason CHECK (status <> 'dead' OR last_error IS NOT NULL)
) WITH (fillfactor = 80);
-- Empty when everything is sent.
CREATE INDEX notifications_due ON notifications (channel, next_at, id) WHERE status = 'pending';
-- Few, if all is well; there to be listed.
CREATE INDEX notifications_dead ON notifications (id) WHERE status = 'dead';
CREATE INDEX notifications_order_id ON notifications USING brin (order_id) WITH (pages_per_range = 32, autosummarize = on);

-- The last event that has its notifications. It starts at today's: customers are not told of the past.
CREATE TABLE notification_watermark (
    id       smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    last_seq bigint   NOT NULL
) WITH (fillfactor = 10);
INSERT INTO notification_watermark (last_seq) SELECT last_seq FROM event_counter;

-- Part of the ids of mails and webhooks, so that those of two installations are never alike.
INSERT INTO settings (key, value) VALUES ('installation', gen_random_uuid()::text) ON CONFLICT DO NOTHING;
