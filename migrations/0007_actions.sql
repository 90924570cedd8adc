-- What people did to the running pipeline, by whichever way: one row an action, written after its effect.
CREATE TABLE actions (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    -- The name of the token, user@host of the command line, or that nobody had to say who he is.
    actor    text   NOT NULL CHECK (char_length(actor) BETWEEN 1 AND 200),
    via      text   NOT NULL CHECK (via IN ('cli', 'http', 'dashboard', 'top')),
    verb     text   NOT NULL
        CHECK (verb IN ('pause', 'resume', 'claim', 'replay', 'edit_and_replay', 'discard')),
    -- What it was about, for people: a stage, a letter, which letters.
    target   text   NOT NULL CHECK (char_length(target) BETWEEN 1 AND 500),
    -- What was said when it was done; may be empty.
    why      text   NOT NULL CHECK (char_length(why) <= 500),
    -- How many stages, messages or letters it changed.
    affected bigint NOT NULL CHECK (affected >= 0),
    outcome  text   NOT NULL CHECK (outcome IN ('done', 'refused', 'failed', 'interrupted')),
    -- More about it, for programs: an object.
    detail   jsonb  NOT NULL CHECK (jsonb_typeof(detail) = 'object' AND octet_length(detail::text) <= 65536)
);
