#!lua flags=allow-oom
-- Send Open to a device, with the session's log in it: devices may not read logs.
-- KEYS: session, ids, inbox. ARGV: Open, whose last two fields (the log) are empty.
-- Returns 1; 0 when there is no such log; -1 when it does not fit a message.
local spec = redis.call('HGET', KEYS[1], 'spec')
if not spec then
  return 0
end
local ids = {}
for i, token in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  ids[i] = tonumber(token)
end
local size = #spec
local length = string.char(math.floor(size / 16777216), math.floor(size / 65536) % 256,
  math.floor(size / 256) % 256, size % 256)
-- Spliced in as it is (msgpack's bin 32): Lua's numbers would round a seed.
local message = string.sub(ARGV[1], 1, -1 - EMPTY_LOG_BYTES) .. '\198' .. length .. spec .. cmsgpack.pack(ids)
if #message > MAX_MESSAGE_BYTES then
  return -1
end
add_inboxes({{KEYS[3], message}})
return 1
