-- HTTP: who may do what, and answers that are given again.

-- A token is 32 random bytes, shown once. What is kept of it opens nothing; so many random bytes need no salt and no slow
-- hash.
CREATE TABLE api_tokens (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- For people: who has it.
    name         text   NOT NULL,
    -- Each role may do what those before it may.
    role         text   NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    -- SHA-256.
    hash         bytea  NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- To the minute.
    last_used_at timestamptz,
    revoked_at   timestamptz
);

-- The answers to requests with the header Idempotency-Key, for a day.
CREATE TABLE idempotency_keys (
    -- Whose key it is: different tokens may use the same. 0 is the loopback address, where no token is needed.
    token_id      bigint NOT NULL,
    route         text   NOT NULL,
    key           text   NOT NULL,
    -- SHA-256 of the request: the same key with another request is a mistake.
    request_hash  bytea  NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Until then whoever claimed the key works on it. After a crash another may take the key over.
    claimed_until timestamptz NOT NULL,
    -- The answer, once there is one.
    status        smallint,
    headers       text,
    body          bytea,
    PRIMARY KEY (token_id, route, key),
    CONSTRAINT idempotency_keys_answer_is_whole
        CHECK ((status IS NULL) = (body IS NULL) AND (status IS NULL) = (headers IS NULL))
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
