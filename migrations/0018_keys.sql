-- A provider's URL does not say whose account is charged: the key does.

-- Fingerprints of the keys by which the provider knows this installation, all of the same account; none until a process that
-- has a key begins a payment. A process with another key begins none.
ALTER TABLE gateways ADD COLUMN key_fingerprints text[] NOT NULL DEFAULT '{}';
ALTER TABLE gateways ADD CONSTRAINT gateways_keys_of_providers CHECK (kind = 'http' OR key_fingerprints = '{}');

-- What they are salted with. Not the installation's id: a copy of the database gets another one, and keeps its keys.
INSERT INTO settings (key, value) VALUES ('key_salt', gen_random_uuid()::text) ON CONFLICT DO NOTHING;

ALTER TABLE actions DROP CONSTRAINT actions_verb_check;
ALTER TABLE actions ADD CONSTRAINT actions_verb_check
    CHECK (verb IN ('pause', 'resume', 'claim', 'replay', 'edit_and_replay', 'discard', 'refund', 'set_provider', 'locate_provider',
                    'move_provider', 'accept_key'));
