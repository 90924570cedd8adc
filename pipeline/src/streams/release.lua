#!lua flags=allow-oom
-- Makes entries that nobody has touched for a while free at once: they stay with the consumer that holds them, but look as
-- if it had been silent for a day, so that whoever takes over next takes them. No delivery is counted here.
--
-- An entry that was deleted from the stream is left as it is: XCLAIM would forget it without a word. Whoever takes over
-- finds it after its own time.
--
-- KEYS[1]   the stream
-- ARGV      group, whose ('' for everybody's), idle milliseconds, from which id, how many at most, the day in milliseconds
-- Reply     {after which id to go on, or 0-0 when there are no more; {{consumer, entries made free, entries left}, …}}
local stream, group, whose = KEYS[1], ARGV[1], ARGV[2]
local idle, from, most, day = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]

local rows
if whose == '' then
    rows = redis.call('XPENDING', stream, group, 'IDLE', idle, from, '+', most)
else
    rows = redis.call('XPENDING', stream, group, 'IDLE', idle, from, '+', most, whose)
end

local counts, order = {}, {}
for _, row in ipairs(rows) do
    local id, consumer = row[1], row[2]
    if not counts[consumer] then
        counts[consumer] = {0, 0}
        order[#order + 1] = consumer
    end
    if redis.call('XRANGE', stream, id, id)[1] then
        redis.call('XCLAIM', stream, group, consumer, 0, id, 'IDLE', day, 'JUSTID')
        counts[consumer][1] = counts[consumer][1] + 1
    else
        counts[consumer][2] = counts[consumer][2] + 1
    end
end

local told = {}
for _, consumer in ipairs(order) do
    told[#told + 1] = {consumer, counts[consumer][1], counts[consumer][2]}
end
return {#rows == most and rows[#rows][1] or '0-0', told}
