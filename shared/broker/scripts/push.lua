#!lua flags=allow-oom
-- Add to a work stream, unless it is at its bound.
-- KEYS: stream. ARGV: bound, message. Returns 1, or 0 when it is full.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
add_work(KEYS[1], ARGV[2])
return 1
