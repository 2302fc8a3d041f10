-- Extend the lease. KEYS: lease. ARGV: holder, term, ttl ms. Returns 0 when it was lost.
local lease = redis.call('HMGET', KEYS[1], 'holder', 'term')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
