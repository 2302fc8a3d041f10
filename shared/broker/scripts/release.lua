-- Release the lease if it is still this holder's. KEYS: lease. ARGV: holder, term.
local lease = redis.call('HMGET', KEYS[1], 'holder', 'term')
if lease[1] == ARGV[1] and lease[2] == ARGV[2] then
  redis.call('DEL', KEYS[1])
end
return 1
