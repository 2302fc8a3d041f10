#!lua flags=allow-oom
-- Entries delivered to a consumer and not acknowledged, oldest first, with how often they were delivered.
-- KEYS: work stream. ARGV: consumer, maximum number of entries. Returns {{id, deliveries, data}, ...}.
local found = {}
local reply = redis.call('XREADGROUP', 'GROUP', GROUP, ARGV[1], 'COUNT', ARGV[2], 'STREAMS', KEYS[1], '0')
if not reply then
  return found
end
local deliveries = {}
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], GROUP, '-', '+', ARGV[2], ARGV[1])) do
  deliveries[entry[1]] = entry[4]
end
for _, entry in ipairs(reply[1][2]) do
  if entry[2] then
    found[#found + 1] = {entry[1], deliveries[entry[1]] or 1, entry[2]}
  else -- deleted while it was pending
    redis.call('XACK', KEYS[1], GROUP, entry[1])
  end
end
return found
