#!lua flags=allow-oom
-- Add to a work stream what it has room for, in order.
-- KEYS: stream. ARGV: bound, then messages. Returns how many were added.
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local added = math.max(0, math.min(room, #ARGV - 1))
for i = 2, added + 1 do
  add_work(KEYS[1], ARGV[i])
end
return added
