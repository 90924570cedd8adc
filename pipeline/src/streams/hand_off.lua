#!lua flags=allow-oom
-- Hands a batch on, atomically: for each entry, acknowledge it and, only if it was still pending, add the message that
-- follows from it. Two workers that both processed an entry hand it off once.
--
-- allow-oom: a full Redis must be able to drain. A script is not rolled back: what can be checked is checked before the
-- first write, and an entry whose message cannot be added (no permission, ids exhausted) becomes pending again.
--
-- What was acknowledged is counted in the books of the group (books.lua), in the same step.
--
-- KEYS[1]   the source stream; KEYS[2] its books; KEYS[3] what was acknowledged; KEYS[4..] the streams that may be added to
-- ARGV[1]   group; ARGV[2] consumer; then per entry:
--           id, target (index into KEYS, 0: none), owned (1: only while pending for this consumer), n, n names and values
-- Reply     {handed off, {which, from 0, were already acknowledged or are owned by another}}; an error NOGROUP when the group is gone
local source, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local kinds = {[2] = 'hash', [3] = 'list'}
for k = 2, #KEYS do
    local kind, expected = redis.call('TYPE', KEYS[k]).ok, kinds[k] or 'stream'
    if kind ~= expected and kind ~= 'none' then
        return redis.error_reply('WRONGTYPE target ' .. KEYS[k] .. ' is a ' .. kind .. ', not a ' .. expected)
    end
end
redis.call('XPENDING', source, group) -- XACK answers 0 for a missing group; this fails with NOGROUP

local handed, already, index = {}, {}, 0
local function note()
    if #handed > 0 then
        redis.call('HINCRBY', KEYS[2], 'acked', #handed)
        redis.call('RPUSH', KEYS[3], handed[#handed] .. ' ' .. table.concat(handed, ' '))
    end
end
local i = 3
while i <= #ARGV do
    local id, target, owned, n = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], tonumber(ARGV[i + 3])
    local mine = owned ~= '1' or #redis.call('XPENDING', source, group, id, id, 1, consumer) > 0
    if mine and redis.call('XACK', source, group, id) == 1 then
        if target > 0 then
            local added = redis.pcall('XADD', KEYS[target], '*', unpack(ARGV, i + 4, i + 3 + n))
            if added.err then
                redis.call('XCLAIM', source, group, consumer, 0, id, 'FORCE', 'JUSTID')
                note()
                return added
            end
        end
        handed[#handed + 1] = id
    else
        already[#already + 1] = index
    end
    index = index + 1
    i = i + 4 + n
end
note()
return {#handed, already}
