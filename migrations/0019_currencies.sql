-- In what money was taken: every amount has its currency, and sums say which ones they are over.

-- Whether payments were begun under a term: a currency in which nothing was charged is in no sum.
ALTER TABLE gateway_terms ADD COLUMN took_payments boolean NOT NULL DEFAULT false;
UPDATE gateway_terms SET took_payments = true FROM (SELECT DISTINCT term FROM payments) begun WHERE begun.term = id;

-- As before, and remembers that payments are begun under the term.
CREATE OR REPLACE FUNCTION demand_gateway(expected text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    term bigint;
    installed text;
    is_first boolean;
BEGIN
    -- Where nothing is to be paid nobody is asked.
    IF expected = 'none' THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(1734440037);
    SELECT id, gateway, NOT took_payments INTO term, installed, is_first FROM gateway_terms ORDER BY id DESC LIMIT 1;
    IF installed IS DISTINCT FROM expected THEN
        RAISE EXCEPTION 'new payments are taken by %, not by %', coalesce(installed, 'nobody'), expected
            USING ERRCODE = 'OS001';
    END IF;
    IF is_first THEN
        UPDATE gateway_terms SET took_payments = true WHERE id = term AND NOT took_payments;
    END IF;
    RETURN term;
END $$;

-- In what an order is paid: the currency of the gateway of its payment, null where an earlier version did not record it; of an
-- order that nobody was asked to pay, what is charged in now.
CREATE FUNCTION order_currency(asked bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT currency FROM gateways WHERE name = coalesce(
        (SELECT gateway FROM payments WHERE order_id = asked AND gateway <> 'none' ORDER BY attempt DESC LIMIT 1),
        (SELECT gateway FROM gateway_terms ORDER BY id DESC LIMIT 1)
    )
$$;
