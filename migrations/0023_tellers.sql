-- Who signed a callback, so that the provider of one gateway says nothing of another's payments. In capitals, as in names of
-- variables: ORDERSTREAM_WEBHOOK_SECRET_HTTP_2 is the secret of `http-2`.

-- The gateways whose own secret it was signed with; null: the common one, or a message on the stream, which nobody signs.
ALTER TABLE payment_callbacks ADD COLUMN told_for text[];
-- Those that have a secret of their own, which it was not signed with: the common one does not speak for them.
ALTER TABLE payment_callbacks ADD COLUMN not_told_for text[] NOT NULL DEFAULT '{}';
