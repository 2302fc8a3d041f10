#!lua flags=allow-oom
-- Acknowledge and delete.
-- KEYS: stream. ARGV: entry ids.
for _, id in ipairs(ARGV) do
  ack(KEYS[1], id)
end
return 1
