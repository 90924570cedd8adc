#!lua flags=allow-oom
-- Removes the entries that every group of the stream has acknowledged, and no others. The bound is computed and used
-- in one script: a group that is created in between cannot lose what it has not read.
--
-- KEYS[1]   the stream
-- Reply     how many entries were removed
local found = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if found.err or #found == 0 then
    return 0
end

local function parts(id)
    local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
    return tonumber(ms), tonumber(seq)
end

local min_ms, min_seq
for _, flat in ipairs(found) do
    local group = {}
    for f = 1, #flat, 2 do
        group[flat[f]] = flat[f + 1]
    end
    local ms, seq
    if group['pending'] > 0 then
        ms, seq = parts(redis.call('XPENDING', KEYS[1], group['name'])[2])
    else
        ms, seq = parts(group['last-delivered-id'])
        seq = seq + 1
    end
    if not min_ms or ms < min_ms or (ms == min_ms and seq < min_seq) then
        min_ms, min_seq = ms, seq
    end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f-%.0f', min_ms, min_seq))
