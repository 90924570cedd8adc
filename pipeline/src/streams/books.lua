-- What stands beside a group of ours, so that what was delivered to nobody is found. Whatever was added to a stream is
-- acknowledged, in somebody's hands, or unread: added = base + acked + pending + unread. Our own script counts what it
-- acknowledges; the rest Redis knows. What is missing was taken from a consumer that somebody deleted, trimmed, deleted,
-- skipped or acknowledged by a stranger.
--
-- KEYS[1]   the stream
-- KEYS[2]   the books, a hash: base, acked; added (at the last look), settled (all before this id is done);
--           lost and redriven (found so far); closed (until when nobody counts, in milliseconds)
-- KEYS[3]   what was acknowledged since, a list: for each hand-off its last id, then all ids
-- ARGV[1]   the group

-- An id as a text that compares as the id does: its halves have 64 bits, more than a number here can hold.
local function comparable(id)
    local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
    return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
end

local function map(flat)
    local fields = {}
    for f = 1, #flat, 2 do
        fields[flat[f]] = flat[f + 1]
    end
    return fields
end

-- The stream, its groups, and ours among them; nothing without the stream.
local function look()
    local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
    if info.err then
        return nil
    end
    local groups, own = {}, nil
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
        local group = map(flat)
        groups[#groups + 1] = group
        if group['name'] == ARGV[1] then
            own = group
        end
    end
    return map(info), groups, own
end

local function books()
    local row = redis.call('HMGET', KEYS[2], 'base', 'acked', 'added', 'settled', 'closed')
    local time = redis.call('TIME')
    local closed = row[5] and tonumber(row[5]) > time[1] * 1000
    return {base = tonumber(row[1] or nil), acked = tonumber(row[2] or 0), added = tonumber(row[3] or 0),
        settled = row[4] or '0-0', closed = closed}
end

local function is_all_read(stream, group)
    return comparable(group['last-delivered-id']) >= comparable(stream['last-generated-id'])
end

-- Entries of a range, if they are not more than `most`.
local function count(from, to, most)
    local counted = 0
    while counted <= most do
        local page = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 1000)
        counted = counted + #page
        if #page < 1000 then
            return counted
        end
        from = '(' .. page[#page][1]
    end
    return nil
end

-- What nobody has read. Redis' own lag is believed where it can be right: it costs nothing.
local function unread(stream, group)
    if is_all_read(stream, group) then
        return 0
    end
    local lag = group['lag']
    if lag and lag <= stream['length'] then
        return lag
    end
    return nil
end

-- The same, counted, where not more than `most` entries have to be looked at; else nil.
local function unread_counted(stream, group, most)
    if is_all_read(stream, group) then
        return 0
    end
    local last = group['last-delivered-id']
    local read = count('-', last, most)
    if read then
        return stream['length'] - read
    end
    return count('(' .. last, '+', most)
end

local function missing(stream, group, book, waiting)
    return stream['entries-added'] - book.base - book.acked - group['pending'] - waiting
end

