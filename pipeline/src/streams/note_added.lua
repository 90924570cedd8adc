-- Notes how much was added to a stream by now: of a stream that somebody deletes, that is known to have been lost.
--
-- ARGV      the group
local stream, _, own = look()
local book = books()
if stream and own and book.base and not book.closed and stream['entries-added'] > book.added then
    redis.call('HSET', KEYS[2], 'added', stream['entries-added'])
end
