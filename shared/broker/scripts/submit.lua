-- Create a session's log, mark it live and add Submit for the scheduler.
-- KEYS: session, submit, live. ARGV: bound, message, name, deadline_ms, then fields and values of the log.
-- Returns 1, 0 when the log existed (nothing is done), -1 when the stream is full.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[1]) then
  return -1
end
local expires_ms = now_ms() + tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'expires_ms', expires_ms, unpack(ARGV, 5))
redis.call('PEXPIREAT', KEYS[1], expires_ms + LOG_KEPT_S * 1000)
redis.call('SADD', KEYS[3], ARGV[3])
add_work(KEYS[2], ARGV[2])
return 1
