-- Puts the books of a group right. What was delivered, is in nobody's hands and was never acknowledged becomes pending
-- again, so old that whoever takes over next takes it; what is gone from the stream is counted as lost. Books that do not
-- exist yet begin.
--
-- ARGV      the group, the consumer that gets what is found, most entries to look at, the day in milliseconds
-- Reply     {1 if it could be told, entries given out again, entries that are gone}
local consumer, most, day = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local stream, _, own = look()
local book = books()
if not stream or not own or book.closed then
    return {1, 0, 0}
end
local waiting = unread_counted(stream, own, most)
if not waiting then
    return {0, 0, 0}
end
if unread(stream, own) ~= waiting then
    -- Redis lost count of what the group has read; told, it knows the lag again.
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], own['last-delivered-id'], 'ENTRIESREAD', stream['entries-added'] - waiting)
end
local last, added, pending = own['last-delivered-id'], stream['entries-added'], own['pending']

-- What was read, with whether it is in somebody's hands, from the oldest that may not be done on.
local function read_entries(from)
    local held, at = {}, from
    while true do
        local rows = redis.call('XPENDING', KEYS[1], ARGV[1], at, last, 1000)
        for _, row in ipairs(rows) do
            held[row[1]] = true
        end
        if #rows < 1000 or rows[#rows][1] == last then
            break
        end
        at = '(' .. rows[#rows][1]
    end
    local free, looked_at = {}, 0
    at = from
    while looked_at < most do
        local page = redis.call('XRANGE', KEYS[1], at, last, 'COUNT', 1000)
        looked_at = looked_at + #page
        for _, entry in ipairs(page) do
            if not held[entry[1]] then
                free[#free + 1] = entry[1]
            end
        end
        if #page < 1000 or page[#page][1] == last then
            return free
        end
        at = '(' .. page[#page][1]
    end
    return free, string.sub(at, 2)
end

local function begin()
    redis.call('HSET', KEYS[2], 'base', added - book.acked - pending - waiting, 'added', added)
    redis.call('HDEL', KEYS[2], 'settled')
end

if not book.base then
    begin()
    -- What is done by now is no loss later.
    local done = read_entries('-')
    for first = 1, #done, 1000 do
        local ids = {}
        for i = first, math.min(first + 999, #done) do
            ids[#ids + 1] = done[i]
        end
        redis.call('RPUSH', KEYS[3], ids[#ids] .. ' ' .. table.concat(ids, ' '))
    end
    return {1, 0, 0}
end
if added < book.added then
    -- Another stream under this name: the old one was deleted with what was in it.
    local gone = math.max(book.added - book.base - book.acked, 0)
    begin()
    if gone > 0 then
        redis.call('HINCRBY', KEYS[2], 'lost', gone)
    end
    return {1, 0, gone}
end

local lacks = missing(stream, own, book, waiting)
if lacks <= 0 then
    redis.call('HSET', KEYS[2], 'base', book.base + lacks, 'added', added)
    return {1, 0, 0}
end
local acked = {}
for _, ids in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
    for id in string.gmatch(ids, '%S+') do
        acked[id] = true
    end
end
local free, looked_to = read_entries(book.settled)
local redriven = 0
for _, id in ipairs(free) do
    if not acked[id] then
        redis.call('XCLAIM', KEYS[1], ARGV[1], consumer, 0, id, 'IDLE', day, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
        redriven = redriven + 1
    end
end
if looked_to then
    -- What comes after is for the next call, which begins where this one came to, or at the first that is in somebody's hands.
    if own['pending'] + redriven > 0 then
        local first = redis.call('XPENDING', KEYS[1], ARGV[1])[2]
        if comparable(first) < comparable(looked_to) then
            looked_to = first
        end
    end
    if comparable(looked_to) > comparable(book.settled) then
        redis.call('HSET', KEYS[2], 'settled', looked_to)
    end
    if redriven > 0 then
        redis.call('HINCRBY', KEYS[2], 'redriven', redriven)
    end
    return {0, redriven, 0}
end
-- More than was missing had been acknowledged before anybody counted.
local gone = math.max(lacks - redriven, 0)
redis.call('HSET', KEYS[2], 'base', book.base + gone - math.max(redriven - lacks, 0), 'added', added)
if redriven > 0 then
    redis.call('HINCRBY', KEYS[2], 'redriven', redriven)
end
if gone > 0 then
    redis.call('HINCRBY', KEYS[2], 'lost', gone)
end
return {1, redriven, gone}
