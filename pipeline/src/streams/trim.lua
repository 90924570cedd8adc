-- Removes the entries that every group of the stream has acknowledged, and no others. The bound is computed and used
-- in one script: a group that is created in between cannot lose what it has not read. Nothing is removed while the books
-- do not balance: what was delivered to nobody is still in the stream, and is found by recover.lua.
--
-- ARGV      the group, 1 if the books were looked at just now
-- Reply     {how many entries were removed, 1 if the books have to be looked at}
local stream, groups, own = look()
if not stream or #groups == 0 then
    return {0, 0}
end
if own then
    local book = books()
    if not book.closed and ARGV[2] == '1' then
        local waiting = book.base and unread(stream, own)
        if waiting and missing(stream, own, book, waiting) > 0 then
            return {0, 1}
        end
    elseif not book.closed then
        if not book.base or stream['entries-added'] < book.added then
            return {0, 1}
        end
        local waiting = unread(stream, own)
        local lacks = waiting and missing(stream, own, book, waiting)
        -- Too many are no loss, but hide one: to be put right where it is certain.
        if not waiting or lacks > 0 or (lacks < 0 and is_all_read(stream, own)) then
            return {0, 1}
        end
    end
    local mark = own['last-delivered-id']
    if own['pending'] > 0 then
        mark = redis.call('XPENDING', KEYS[1], ARGV[1])[2]
    end
    redis.call('HSET', KEYS[2], 'added', stream['entries-added'], 'settled', mark)
    local bound = comparable(mark)
    for _ = 1, 10000 do
        local first = redis.call('LINDEX', KEYS[3], 0)
        if not first or comparable(string.match(first, '^%S+')) >= bound then
            break
        end
        redis.call('LPOP', KEYS[3])
    end
end

local bound
for _, group in ipairs(groups) do
    -- The oldest entry that the group still needs, or the last one that it has read: that one stays, too.
    local id = group['last-delivered-id']
    if group['pending'] > 0 then
        id = redis.call('XPENDING', KEYS[1], group['name'])[2]
    end
    if not bound or comparable(id) < comparable(bound) then
        bound = id
    end
end
return {redis.call('XTRIM', KEYS[1], 'MINID', '~', bound), 0}
