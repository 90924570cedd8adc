#!lua
-- Sends a dead letter on its way again and notes it, atomically. Not allow-oom: a full Redis takes no new work.
--
-- KEYS[1]   the dead letters; KEYS[2] the hash of replays; KEYS[3] the stream to add to
-- ARGV[1]   the letter's id; ARGV[2] 1 to replay one that was replayed before; ARGV[3] when; ARGV[4] 1 for an edited
--           body; then names and values of the message
-- Reply     {'replayed', new id}, {'already', mark} or {'gone'}
local letter, again, at, edited = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4] == '1'
-- A script is not rolled back: keys of the wrong type must be found before the first write.
local kinds = {'stream', 'hash', 'stream'}
for k = 1, #KEYS do
    local kind = redis.call('TYPE', KEYS[k]).ok
    if kind ~= 'none' and kind ~= kinds[k] then
        return redis.error_reply('WRONGTYPE ' .. KEYS[k] .. ' is a ' .. kind .. ', not a ' .. kinds[k])
    end
end
if #redis.call('XRANGE', KEYS[1], letter, letter) == 0 then
    return {'gone'}
end
local mark = redis.call('HGET', KEYS[2], letter)
if mark and not again then
    return {'already', mark}
end
local times = 1
if mark then
    local read, old = pcall(cjson.decode, mark)
    times = 1 + (read and type(old) == 'table' and tonumber(old.times) or 1)
end
local id = redis.call('XADD', KEYS[3], '*', unpack(ARGV, 5))
redis.call('HSET', KEYS[2], letter, cjson.encode({as = id, at = at, times = times, edited = edited}))
return {'replayed', id}
