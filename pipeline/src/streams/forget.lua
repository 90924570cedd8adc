#!lua flags=allow-oom
-- Deletes consumers that hold nothing and have not been heard of for a while; one that lives and works nevertheless is
-- created again by its next read. In one script: between a look and a deletion somebody could be given entries, and
-- deleting a consumer deletes what it holds.
--
-- KEYS[1] stream; ARGV[1] group; ARGV[2] idle milliseconds; ARGV[3] only this consumer, or '' for all.
-- Reply: how many were deleted
local deleted = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for f = 1, #flat, 2 do
        consumer[flat[f]] = flat[f + 1]
    end
    local meant = ARGV[3] == '' or ARGV[3] == consumer['name']
    if meant and consumer['pending'] == 0 and consumer['idle'] >= tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
        deleted = deleted + 1
    end
end
return deleted
