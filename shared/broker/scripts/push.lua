#!lua flags=allow-oom
-- Add messages to a work stream, in order, as many as it has room for.
-- KEYS: stream. ARGV: bound, then messages. Returns how many were added.
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local added = math.max(0, math.min(room, #ARGV - 1))
for i = 2, added + 1 do
  add_work(KEYS[1], ARGV[i])
end
return added
