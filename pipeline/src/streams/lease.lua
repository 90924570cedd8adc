#!lua flags=allow-oom
-- Takes a lease, or renews one's own.
--
-- KEYS[1]   the lease
-- ARGV      who asks, milliseconds that it lasts
-- Reply     1 when it is theirs, 0 when somebody else has it
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
