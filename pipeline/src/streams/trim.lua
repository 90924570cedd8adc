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

-- Ids as texts of one length: their halves have 64 bits, more than a number here can hold.
local function comparable(id)
    local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
    return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
end

local bound
for _, flat in ipairs(found) do
    local group = {}
    for f = 1, #flat, 2 do
        group[flat[f]] = flat[f + 1]
    end
    -- The oldest entry that the group still needs, or the last one that it has read: that one stays, too.
    local id = group['last-delivered-id']
    if group['pending'] > 0 then
        id = redis.call('XPENDING', KEYS[1], group['name'])[2]
    end
    if not bound or comparable(id) < comparable(bound) then
        bound = id
    end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', bound)
