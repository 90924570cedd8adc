-- Earlier versions set a time for the next question also where the provider had said its last word, and asked about every
-- payment again and again. What waits for no answer is due at no time.
UPDATE payments SET due_at = NULL WHERE due_at IS NOT NULL AND status NOT IN ('pending', 'expired');
ALTER TABLE payments ADD CONSTRAINT payments_due_while_open CHECK (due_at IS NULL OR status IN ('pending', 'expired'));
