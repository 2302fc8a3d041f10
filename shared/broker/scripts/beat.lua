#!lua flags=allow-oom
-- Write a heartbeat, unless a newer incarnation has the name.
-- KEYS: alive, names, then the stream that only this process reads, if it has one.
-- ARGV: generation, heartbeat, ttl ms, name. Returns 0 when a higher generation is there, else the
-- broker's clock in microseconds.
if tonumber(heartbeat(KEYS[1]) or 0) > tonumber(ARGV[1]) then
  return 0
end
local now, ttl = now_ms(), tonumber(ARGV[3])
redis.call('XADD', KEYS[1], 'MAXLEN', 1, ARGV[1] .. '-*', 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('ZADD', KEYS[2], now + ttl, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('PEXPIRE', KEYS[2], math.max(ttl, redis.call('PTTL', KEYS[2])))
for i = 3, #KEYS do
  redis.call('EXPIRE', KEYS[i], INBOX_KEPT_S)
end
local time = redis.call('TIME')
return tonumber(time[1]) * 1000000 + tonumber(time[2])
