#!lua flags=allow-oom
-- Takes entries that were delivered and never acknowledged: this consumer's own, or those that nobody has touched for a
-- while. They belong to this consumer afterwards and are fresh.
--
-- Deliveries are counted here and not by Redis, which counts every look at a consumer's own entries. A count is a
-- number of times that somebody fell silent with the entry in hand. Once it has reached `company`, taking the entry
-- does not raise it any more: whoever took it counts again when the entry's turn comes to be processed apart
-- (Consumer::count), so that those that wait behind it are not blamed if it kills.
--
-- An entry that was deleted from the stream is returned without fields and stays as it is: XAUTOCLAIM, and XCLAIM, too,
-- would forget it without a word.
--
-- KEYS[1]   the stream
-- ARGV      group, consumer, how many at most, from which id, idle milliseconds ('' for the consumer's own),
--           company, counted (1: those who had the entries before fell silent; 0: it was us, and only a reply was lost)
-- Reply     {after which id to go on, or 0-0 when there are no more; {{id, deliveries before this one, fields}, …}}
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local most, from, idle, company, counted = tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]

local rows
if idle == '' then
    rows = redis.call('XPENDING', stream, group, from, '+', most, consumer)
else
    rows = redis.call('XPENDING', stream, group, 'IDLE', idle, from, '+', most)
end

local taken = {}
for _, row in ipairs(rows) do
    local id, deliveries = row[1], row[4]
    local before = deliveries
    if counted ~= '1' then
        before = math.max(deliveries - 1, 0)
    end
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then
        local count = deliveries
        if counted == '1' and deliveries < company then
            count = deliveries + 1
        end
        redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', count, 'JUSTID')
    end
    taken[#taken + 1] = {id, before, entry and entry[2] or {}}
end
return {#rows == most and rows[#rows][1] or '0-0', taken}
