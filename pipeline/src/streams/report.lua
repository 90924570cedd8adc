#!lua flags=allow-oom
-- Notes something small in a hash. A full Redis takes it, too: it replaces what was there, and who works is what people ask
-- then.
--
-- KEYS[1]   the hash
-- ARGV      names and values
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
