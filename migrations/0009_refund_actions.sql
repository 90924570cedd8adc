-- Refunds that somebody asks for on a page are actions, too.
ALTER TABLE actions DROP CONSTRAINT actions_verb_check;
ALTER TABLE actions ADD CONSTRAINT actions_verb_check
    CHECK (verb IN ('pause', 'resume', 'claim', 'replay', 'edit_and_replay', 'discard', 'refund'));
