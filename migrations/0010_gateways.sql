-- Who takes the money is a fact of the installation, not of the process that happens to work.

-- Every gateway that ever took a payment here. `payments.gateway` and `refunds.gateway` name one: a payment stays with the
-- gateway, currency and references that began it. Rows are never changed, but for those of an earlier version, which did
-- not record what is null here.
CREATE TABLE gateways (
    name     text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$' AND name <> 'none'),
    kind     text NOT NULL CHECK (kind IN ('simulator', 'http')),
    -- The provider's base URL; null of the simulator.
    url      text,
    currency text CHECK (currency ~ '^[A-Z]{3}$'),
    -- How many of 10,000 order codes the simulator approves.
    approved_of_10_000 integer CHECK (approved_of_10_000 BETWEEN 0 AND 10000),
    -- What stands before our codes and keys in references, so that two installations at one provider never share one.
    reference_prefix text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT gateways_url_of_providers CHECK (kind = 'http' OR url IS NULL),
    CONSTRAINT gateways_share_of_simulators CHECK (kind = 'simulator' OR approved_of_10_000 IS NULL)
);

-- Who took new payments from when on: the last row does now.
CREATE TABLE gateway_terms (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL REFERENCES gateways (name),
    from_at timestamptz NOT NULL
);

-- What earlier versions called theirs. Which URL and currency `http` was, an operator has to say: orderstream provider locate.
INSERT INTO gateways (name, kind, reference_prefix)
SELECT gateway, CASE gateway WHEN 'simulator' THEN 'simulator' ELSE 'http' END, ''
FROM (SELECT gateway FROM payments UNION SELECT gateway FROM refunds) earlier
WHERE gateway IS NOT NULL AND gateway <> 'none';

-- Called by every statement that stores a payment: fails unless `expected` takes new payments now. Whoever changes that waits for
-- the transactions that were let in, and later ones wait for the change; a volatile function reads what is committed then.
CREATE FUNCTION demand_gateway(expected text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    installed text;
BEGIN
    -- Where nothing is to be paid nobody is asked.
    IF expected = 'none' THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(1734440037);
    SELECT gateway INTO installed FROM gateway_terms ORDER BY id DESC LIMIT 1;
    IF installed IS DISTINCT FROM expected THEN
        RAISE EXCEPTION 'new payments are taken by %, not by %', coalesce(installed, 'nobody'), expected
            USING ERRCODE = 'OS001';
    END IF;
    RETURN true;
END $$;

ALTER TABLE actions DROP CONSTRAINT actions_verb_check;
ALTER TABLE actions ADD CONSTRAINT actions_verb_check
    CHECK (verb IN ('pause', 'resume', 'claim', 'replay', 'edit_and_replay', 'discard', 'refund', 'set_provider', 'locate_provider'));
