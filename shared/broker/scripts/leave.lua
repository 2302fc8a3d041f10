#!lua flags=allow-oom
-- Delete a heartbeat, unless it is another incarnation's. KEYS: alive, names. ARGV: generation, name. Returns 1.
if heartbeat(KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[2])
end
return 1
