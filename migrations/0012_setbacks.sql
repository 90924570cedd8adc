-- What Redis lost: that it went back to an older state, and messages that were delivered to nobody.

-- A number that only grows, kept in Redis beside the streams and here: a Redis that has a smaller one went back.
CREATE TABLE redis_marks (
    namespace text PRIMARY KEY,
    mark      bigint NOT NULL CHECK (mark > 0),
    marked_at timestamptz NOT NULL
);

ALTER TABLE reconciliations DROP CONSTRAINT reconciliations_cause_check;
ALTER TABLE reconciliations ADD CONSTRAINT reconciliations_cause_check CHECK (cause IN
    ('messages_lost', 'letters_lost', 'postgres_restored', 'redis_went_back', 'redis_emptied', 'deliveries_lost'))
    NOT VALID;
ALTER TABLE reconciliations VALIDATE CONSTRAINT reconciliations_cause_check;
