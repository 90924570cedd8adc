-- Files of refund requests are imported like files of orders.

ALTER TABLE imports
    -- What the file holds. Where it is refunds, `orders` counts refunds, and an import rejects rows, never orders.
    ADD COLUMN kind text NOT NULL DEFAULT 'orders' CHECK (kind IN ('orders', 'refunds'));
