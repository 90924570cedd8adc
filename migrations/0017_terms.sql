-- A program of an earlier version that was left running over the migration moves no money, and refunds have references of
-- their own.

-- The default of columns that this version always writes: who does not know them is refused, in words that he logs.
CREATE FUNCTION older_program() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'this program is older than the database and moves no more money: stop it, and start the version that migrated the database'
        USING ERRCODE = 'OS002';
END $$;

-- Under which term (gateway_terms) a payment was begun. 0: nothing was to be paid, or an earlier version began it.
ALTER TABLE payments ADD COLUMN term bigint NOT NULL DEFAULT 0;
UPDATE payments p SET term = term.id
FROM (SELECT id, gateway, from_at, lead(from_at, 1, 'infinity') OVER (ORDER BY id) AS until_at FROM gateway_terms) term
WHERE p.gateway = term.gateway AND p.created_at >= term.from_at AND p.created_at < term.until_at;
ALTER TABLE payments ALTER COLUMN term SET DEFAULT older_program()::bigint;

-- What stands before codes and keys in references of this installation: the first 12 digits of its id, and a colon.
CREATE FUNCTION reference_mark() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT left(replace(value, '-', ''), 12) || ':' FROM settings WHERE key = 'installation'
$$;

-- What stands before the key in the reference of a refund. An earlier version asked by the key alone, and its refunds are
-- asked about so; new ones carry the mark of the installation, whoever took the payment, and keep it should the id change.
ALTER TABLE refunds ADD COLUMN reference_prefix text NOT NULL DEFAULT '';
UPDATE refunds r SET reference_prefix = g.reference_prefix
FROM gateways g WHERE g.name = r.gateway AND g.reference_prefix <> '';
ALTER TABLE refunds ALTER COLUMN reference_prefix SET DEFAULT older_program();

-- When somebody has to look after a payment or a refund (again). Under its old name the collector of an earlier version would
-- find what this one began, ask for it under a reference that no provider knows, and have the money moved a second time.
ALTER TABLE payments RENAME COLUMN check_at TO due_at;
ALTER INDEX payments_check_at RENAME TO payments_due_at;
ALTER TABLE refunds RENAME COLUMN check_at TO due_at;
ALTER INDEX refunds_check_at RENAME TO refunds_due_at;

-- As before, and says under which term the payment is begun.
DROP FUNCTION demand_gateway(text);
CREATE FUNCTION demand_gateway(expected text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    term bigint;
    installed text;
BEGIN
    -- Where nothing is to be paid nobody is asked.
    IF expected = 'none' THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(1734440037);
    SELECT id, gateway INTO term, installed FROM gateway_terms ORDER BY id DESC LIMIT 1;
    IF installed IS DISTINCT FROM expected THEN
        RAISE EXCEPTION 'new payments are taken by %, not by %', coalesce(installed, 'nobody'), expected
            USING ERRCODE = 'OS001';
    END IF;
    RETURN term;
END $$;
