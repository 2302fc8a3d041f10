#!lua flags=allow-oom
-- Become the active scheduler.
-- KEYS: lease, term. ARGV: holder, ttl ms. Returns the new term, 0 when another holder has the lease.
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then
  return 0
end
local term = next_number(KEYS[2])
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'term', term)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return term
