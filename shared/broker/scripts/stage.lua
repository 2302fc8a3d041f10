#!lua flags=allow-oom
-- Add a batch for a verifier and acknowledge the drafts in it.
-- KEYS: lease, staged, draft. ARGV: holder, bound, batch, then entry ids of drafts.
-- Returns 1, 0 when the stream is full, -1 when the lease is another's.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then
  return -1
end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[2]) then
  return 0
end
add_work(KEYS[2], ARGV[3])
for i = 4, #ARGV do
  ack(KEYS[3], ARGV[i])
end
return 1
