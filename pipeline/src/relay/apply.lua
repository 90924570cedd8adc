#!lua flags=allow-oom
-- Applies a run of events to the board, all or nothing: only if the cursor stands where the caller believes.
--
-- KEYS[1]   cursor; KEYS[2] events stream; KEYS[3] what the event at the cursor was; KEYS[4] the layout; KEYS[5..]
--           hashes and sorted sets
-- ARGV      from, to, what the event `to` is, the layout at `to`, most entries kept in the events stream, number of events,
--           hash changes, set changes, expiries, then the events (body); the hash changes (key, field, by); the set changes (key, member, by);
--           the expiries (key, unix seconds). A key is an index into KEYS.
-- Reply     1 when applied, 0 when the cursor stands elsewhere
local from, to, event, layout, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if (redis.call('GET', KEYS[1]) or '0') ~= from then
    return 0
end
local kinds = {[1] = 'string', [2] = 'stream', [3] = 'string', [4] = 'string'}
for k = 1, #KEYS do
    -- A script is not rolled back: a key of the wrong type must be found before the first write.
    local kind = redis.call('TYPE', KEYS[k]).ok
    local expected = kinds[k] or (string.find(KEYS[k], ':leaderboard:', 1, true) and 'zset' or 'hash')
    if kind ~= 'none' and kind ~= expected then
        return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. kind .. ', not a ' .. expected)
    end
end

local events, hashes, sets, expiries = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local i = 10
for _ = 1, events do
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', keep, '*', 'body', ARGV[i])
    i = i + 1
end
for _ = 1, hashes do
    redis.call('HINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
    i = i + 3
end
for _ = 1, sets do
    redis.call('ZINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 2], ARGV[i + 1])
    i = i + 3
end
for _ = 1, expiries do
    redis.call('EXPIREAT', KEYS[tonumber(ARGV[i])], ARGV[i + 1])
    i = i + 2
end
redis.call('SET', KEYS[3], event)
redis.call('SET', KEYS[4], layout)
redis.call('SET', KEYS[1], to)
return 1
