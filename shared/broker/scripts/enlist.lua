#!lua flags=allow-oom
-- List live devices among the names of their role, since devices with their own credential may not.
-- KEYS: names, then alive, of each device. ARGV: name and expiry of its credential (ms, 0 = never), of each.
-- Returns the addresses of live devices whose credential has expired.
local now, expired, latest = now_ms(), {}, 0
for i = 2, #KEYS do
  local name, expires = ARGV[2 * i - 3], tonumber(ARGV[2 * i - 2])
  local generation, left = heartbeat(KEYS[i]), redis.call('PTTL', KEYS[i])
  if generation and expires > 0 and now > expires then
    redis.call('ZREM', KEYS[1], name)
    expired[#expired + 1] = name .. ':' .. generation
  elseif generation and left > 0 then
    redis.call('ZADD', KEYS[1], now + left, name)
    latest = math.max(latest, left)
  end
end
if latest > 0 then
  redis.call('PEXPIRE', KEYS[1], math.max(latest, redis.call('PTTL', KEYS[1])))
end
return expired
