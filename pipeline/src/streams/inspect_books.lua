-- Says how the books of a group stand, and changes nothing.
--
-- ARGV      the group, most entries to look at
-- Reply     {missing now, or -1 where that cannot be told; lost; given out again}
local found = redis.call('HMGET', KEYS[2], 'lost', 'redriven')
local lost, redriven = tonumber(found[1] or 0), tonumber(found[2] or 0)
local stream, _, own = look()
local book = books()
if not stream or not own or not book.base or book.closed or stream['entries-added'] < book.added then
    return {0, lost, redriven}
end
local waiting = unread(stream, own)
local lacks = waiting and missing(stream, own, book, waiting)
if not waiting or lacks > 0 then
    waiting = unread_counted(stream, own, tonumber(ARGV[2]))
    lacks = waiting and missing(stream, own, book, waiting)
end
return {lacks and math.max(lacks, 0) or -1, lost, redriven}
