#!lua flags=allow-oom
-- Keep the first bytes of a refused message for inspection, then acknowledge and delete it.
-- KEYS: dead, stream. ARGV: entry id, reason, size, first bytes.
redis.call('XADD', KEYS[1], 'MAXLEN', '~', DEAD_CAP, '*',
  'source', KEYS[2], 'reason', ARGV[2], 'size', ARGV[3], 'd', ARGV[4])
redis.call('EXPIRE', KEYS[1], DEAD_KEPT_S)
ack(KEYS[2], ARGV[1])
return 1
