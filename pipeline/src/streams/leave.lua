#!lua flags=allow-oom
-- Deletes a consumer that holds nothing. In one script: between a look and a deletion somebody could deliver to it.
--
-- KEYS[1] stream; ARGV[1] group; ARGV[2] consumer. Reply: 1 when deleted
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
    return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
