#!lua flags=allow-oom
-- Write a session's epoch and placement.
-- KEYS: session. ARGV: epoch, verifier, device. Returns 0 when the log is gone, finished or of a higher epoch.
local log = redis.call('HMGET', KEYS[1], 'epoch', 'finish')
if not log[1] or log[2] ~= '' or tonumber(log[1]) > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'verifier', ARGV[2], 'device', ARGV[3])
return 1
