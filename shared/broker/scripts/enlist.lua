#!lua flags=allow-oom
-- Put devices that are alive among the names of their role: those with a credential of their own may not.
-- KEYS: names, then alive, of each. ARGV: of each name and until when (ms, 0 = for ever).
-- Returns the addresses of those alive whose time is over.
local now, over, latest = now_ms(), {}, 0
for i = 2, #KEYS do
  local name, expires = ARGV[2 * i - 3], tonumber(ARGV[2 * i - 2])
  local generation, left = heartbeat(KEYS[i]), redis.call('PTTL', KEYS[i])
  if generation and expires > 0 and now > expires then
    redis.call('ZREM', KEYS[1], name)
    over[#over + 1] = name .. ':' .. generation
  elseif generation and left > 0 then
    redis.call('ZADD', KEYS[1], now + left, name)
    latest = math.max(latest, left)
  end
end
if latest > 0 then
  redis.call('PEXPIRE', KEYS[1], math.max(latest, redis.call('PTTL', KEYS[1])))
end
return over
