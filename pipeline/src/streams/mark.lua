#!lua flags=allow-oom
-- Moves the mark on, a number that only grows, unless it is smaller than it is known to have been: then Redis went back,
-- and whoever asks writes that down first.
--
-- KEYS[1]   the mark: a number, and the time at which it was reached, in Unix milliseconds
-- ARGV      the greatest number known, now in Unix milliseconds, 1 to move it on although it is smaller
-- Reply     {the number that was found, 0 for none; its time}
local found = redis.call('GET', KEYS[1]) or ''
local number, at = string.match(found, '^(%d+) (%d+)$')
number, at = tonumber(number or 0), tonumber(at or 0)
local known = tonumber(ARGV[1])
if number >= known or ARGV[3] == '1' then
    redis.call('SET', KEYS[1], string.format('%d %s', math.max(number, known) + 1, ARGV[2]))
end
return {number, at}
