-- Orders that cost nothing, pieces that come back without money, and channels that begin to notify when they are first
-- switched on.

-- Of an order of 0.00 nobody is asked for money: its payment is stored as approved, by the gateway `none`.
ALTER TABLE payments ADD CONSTRAINT payments_none_is_free CHECK (gateway <> 'none' OR amount_cents = 0) NOT VALID;
ALTER TABLE payments VALIDATE CONSTRAINT payments_none_is_free;
-- Earlier versions asked providers for nothing, and waited. The reconciler sends these orders on to settlement.
UPDATE payments SET gateway = 'none', status = 'approved', answered_at = now(), check_at = NULL, note = NULL
WHERE amount_cents = 0 AND status = 'pending';
UPDATE payments SET check_at = NULL WHERE amount_cents = 0 AND check_at IS NOT NULL;

-- Pieces come back without money where all of it is back, where there was none, and where no more of it is to go back.
ALTER TABLE refunds DROP CONSTRAINT refunds_amount_cents_check;
ALTER TABLE refunds ADD CONSTRAINT refunds_amount_cents_check CHECK (amount_cents >= 0) NOT VALID;
ALTER TABLE refunds VALIDATE CONSTRAINT refunds_amount_cents_check;
ALTER TABLE refunds DROP CONSTRAINT refunds_asked_cents_check;
ALTER TABLE refunds ADD CONSTRAINT refunds_asked_cents_check
    CHECK (asked_cents > 0 OR (asked_cents = 0 AND restock)) NOT VALID;
ALTER TABLE refunds VALIDATE CONSTRAINT refunds_asked_cents_check;
-- Nothing is given back for nothing: without money it is the pieces that come back, and no provider hears of it.
ALTER TABLE refunds ADD CONSTRAINT refunds_of_nothing_restock
    CHECK (amount_cents > 0 OR status NOT IN ('pending', 'succeeded') OR restock) NOT VALID;
ALTER TABLE refunds VALIDATE CONSTRAINT refunds_of_nothing_restock;
ALTER TABLE refunds ADD CONSTRAINT refunds_none_is_free CHECK (gateway <> 'none' OR amount_cents = 0) NOT VALID;
ALTER TABLE refunds VALIDATE CONSTRAINT refunds_none_is_free;
ALTER TABLE refunds DROP CONSTRAINT refunds_refusal_check;
ALTER TABLE refunds ADD CONSTRAINT refunds_refusal_check CHECK (refusal IN
    ('unknown_order', 'order_failed', 'not_settled', 'exceeds_paid', 'nothing_left', 'already_restocked',
     'gateway_refused')) NOT VALID;
ALTER TABLE refunds VALIDATE CONSTRAINT refunds_refusal_check;

-- From which event on a channel notifies: from the last one of the moment when it was first switched on. Each goes on from
-- its own, so that one that is off for a while loses nothing to the others.
CREATE TABLE notification_channels (
    channel     text PRIMARY KEY CONSTRAINT notification_channels_channel_check
                CHECK (channel IN ('log', 'mail', 'webhook')),
    switched_on timestamptz NOT NULL DEFAULT now(),
    -- The last event that has its notification on this channel, or needs none.
    last_seq    bigint NOT NULL
) WITH (fillfactor = 10);
-- Channels that have told somebody were switched on before.
INSERT INTO notification_channels (channel, switched_on, last_seq)
SELECT channel, min(created_at), (SELECT last_seq FROM notification_watermark)
FROM notifications GROUP BY channel;
DROP TABLE notification_watermark;
