-- Money: payments that are answered later, refunds, callbacks.

-- A payment is stored as `pending` before a provider is asked, and the order is `paying` from then on. The simulator is
-- a pure function: its payments are stored with their answer, and have none of these times.
ALTER TABLE payments
    -- The provider's name for the charge, as far as it is known.
    ADD COLUMN provider_id text,
    -- Until then the answer should be there; afterwards the order fails.
    ADD COLUMN expires_at  timestamptz,
    -- When to ask the provider again; null once the answer is final.
    ADD COLUMN check_at    timestamptz,
    ADD COLUMN answered_at timestamptz,
    -- How often the provider was asked.
    ADD COLUMN checks      integer NOT NULL DEFAULT 0,
    -- For people: the provider's last word, where it was no answer.
    ADD COLUMN note        text;
-- `late`: the money came when the order had failed already. It goes back: an automatic refund belongs to it.
ALTER TABLE payments DROP CONSTRAINT payments_status_check;
ALTER TABLE payments ADD CONSTRAINT payments_status_check
    CHECK (status IN ('pending', 'approved', 'declined', 'expired', 'late')) NOT VALID;
ALTER TABLE payments VALIDATE CONSTRAINT payments_status_check;
ALTER TABLE payments ADD CONSTRAINT payments_pending_is_asked
    CHECK (status <> 'pending' OR (check_at IS NOT NULL AND expires_at IS NOT NULL)) NOT VALID;
ALTER TABLE payments VALIDATE CONSTRAINT payments_pending_is_asked;
-- Empty where nothing is owed; rows with a final answer are not in it.
CREATE INDEX payments_check_at ON payments (check_at) WHERE check_at IS NOT NULL;

-- A refund is stored with its outcome, whatever that is: the same key gives the same answer for ever.
ALTER TABLE refunds
    ALTER COLUMN order_id DROP NOT NULL,
    -- Null until it is known: a request for the whole rest waits for its order without an amount.
    ALTER COLUMN amount_cents DROP NOT NULL,
    -- As it was asked for; no order of this code may exist.
    ADD COLUMN order_code   text NOT NULL,
    -- What was asked for; null is the whole rest.
    ADD COLUMN asked_cents  bigint CHECK (asked_cents > 0),
    -- Fingerprint of the request: the same key with another one is a conflict.
    ADD COLUMN request_hash bigint NOT NULL,
    -- Why it was refused or failed.
    ADD COLUMN refusal      text,
    -- Whether this refund brought the order's pieces back to the stock. An order's pieces come back once.
    ADD COLUMN restocked    boolean NOT NULL DEFAULT false,
    -- Money that came when the order had failed goes back by itself.
    ADD COLUMN automatic    boolean NOT NULL DEFAULT false,
    ADD COLUMN gateway      text,
    ADD COLUMN provider_id  text,
    -- When to look again: at the provider, or, while it waits, whether the order has settled.
    ADD COLUMN check_at     timestamptz,
    ADD COLUMN checks       integer NOT NULL DEFAULT 0,
    -- How long a refund waits for its order to settle.
    ADD COLUMN waits_until  timestamptz,
    ADD COLUMN settled_at   timestamptz,
    ADD COLUMN import_id    bigint,
    ADD COLUMN note         text;
ALTER TABLE refunds DROP CONSTRAINT refunds_status_check;
ALTER TABLE refunds ADD CONSTRAINT refunds_status_check
    CHECK (status IN ('waiting', 'pending', 'succeeded', 'refused', 'failed'));
ALTER TABLE refunds ADD CONSTRAINT refunds_refusal_check CHECK (refusal IN
    ('unknown_order', 'order_failed', 'not_settled', 'exceeds_paid', 'nothing_left', 'gateway_refused'));
ALTER TABLE refunds ADD CONSTRAINT refunds_refusal_iff_refused
    CHECK ((status IN ('refused', 'failed')) = (refusal IS NOT NULL));
ALTER TABLE refunds ADD CONSTRAINT refunds_settled_iff_final
    CHECK ((status IN ('succeeded', 'refused', 'failed')) = (settled_at IS NOT NULL));
-- Money moves only for an order, from a gateway, in a known amount.
ALTER TABLE refunds ADD CONSTRAINT refunds_money_is_known CHECK (status IN ('waiting', 'refused')
    OR (order_id IS NOT NULL AND amount_cents IS NOT NULL AND gateway IS NOT NULL));
ALTER TABLE refunds ADD CONSTRAINT refunds_open_is_checked
    CHECK ((status IN ('waiting', 'pending')) = (check_at IS NOT NULL));
ALTER TABLE refunds ADD CONSTRAINT refunds_restocked_on_success CHECK (NOT restocked OR (status = 'succeeded' AND restock));
-- The pieces of an order come back once.
CREATE UNIQUE INDEX refunds_restocked_once ON refunds (order_id) WHERE restocked;
-- Late money goes back once.
CREATE UNIQUE INDEX refunds_automatic_once ON refunds (order_id) WHERE automatic;
CREATE INDEX refunds_order_code ON refunds (order_code);
CREATE INDEX refunds_check_at ON refunds (check_at) WHERE check_at IS NOT NULL;

-- What providers told us, as it came: stored before they are thanked, applied by the collector.
CREATE TABLE payment_callbacks (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The sender's id of the message: the same id again is no news.
    event_id    text   NOT NULL UNIQUE,
    -- When the sender signed it last: the same id with the same or an older time is a replay.
    sent_at     timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    body_hash   bigint NOT NULL,
    kind        text   NOT NULL CHECK (kind IN
                ('charge.approved', 'charge.declined', 'charge.pending', 'refund.succeeded', 'refund.failed', 'refund.pending')),
    -- Ours: the order's code, or the refund's key.
    reference   text   NOT NULL,
    provider_id text   NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    currency    text   NOT NULL,
    gateway     text   NOT NULL,
    -- `waiting`: not looked at yet, or what it speaks of is not there yet.
    outcome     text   NOT NULL DEFAULT 'waiting' CHECK (outcome IN
                ('waiting', 'applied', 'repeated', 'contradicts', 'mismatched', 'unmatched')),
    decided_at  timestamptz,
    -- When to look at it (again).
    look_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payment_callbacks_decided CHECK ((outcome = 'waiting') = (decided_at IS NULL))
);
CREATE INDEX payment_callbacks_waiting ON payment_callbacks (look_at) WHERE outcome = 'waiting';
CREATE INDEX payment_callbacks_reference ON payment_callbacks (reference);

-- The outcome of a refund is an event. One that was refused changes no figure, and may be for an order that nobody knows.
ALTER TABLE events
    ALTER COLUMN order_id DROP NOT NULL,
    ADD COLUMN refund_key text;
ALTER TABLE events DROP CONSTRAINT events_kind_check;
ALTER TABLE events ADD CONSTRAINT events_kind_check
    CHECK (kind IN ('completed', 'failed', 'refunded', 'refund_refused')) NOT VALID;
ALTER TABLE events VALIDATE CONSTRAINT events_kind_check;
ALTER TABLE events ADD CONSTRAINT events_order_is_known
    CHECK (order_id IS NOT NULL OR kind = 'refund_refused') NOT VALID;
ALTER TABLE events VALIDATE CONSTRAINT events_order_is_known;
ALTER TABLE events ADD CONSTRAINT events_refund_is_named
    CHECK ((kind IN ('refunded', 'refund_refused')) = (refund_key IS NOT NULL)) NOT VALID;
ALTER TABLE events VALIDATE CONSTRAINT events_refund_is_named;
