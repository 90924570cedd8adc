#!lua flags=allow-oom
-- Writes where alerts stand, unless somebody else evaluates them.
--
-- KEYS[1]   the lease of the one who evaluates them
-- KEYS[2]   the alerts, a hash
-- ARGV      who writes, then fields and values
-- Reply     1 when they are written, 0 when somebody else has the lease
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return 0
end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1
