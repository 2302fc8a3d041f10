#!lua flags=allow-oom
-- Create the consumer group of each work stream, from the stream's start. KEYS: work streams.
for _, stream in ipairs(KEYS) do
  local made = redis.pcall('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
    return made
  end
  let_expire(stream)
end
return 1
