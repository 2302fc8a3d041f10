-- Read a session's log consistently.
-- KEYS: session, ids, logprobs. ARGV: 'whole' or 'head'.
-- Returns {prompt_len, max_tokens, gateway, device_wanted, epoch, verifier, device, finish, remaining ms,
-- committed} and, of the whole, {spec, ids, logprobs} after it; nil when there is none.
local head = redis.call('HMGET', KEYS[1],
  'prompt_len', 'max_tokens', 'gateway', 'device_wanted', 'epoch', 'verifier', 'device', 'finish', 'expires_ms')
if not head[1] then
  return false
end
head[9] = math.max(0, tonumber(head[9]) - now_ms())
head[10] = redis.call('LLEN', KEYS[2])
if ARGV[1] == 'whole' then
  head[11] = redis.call('HGET', KEYS[1], 'spec')
  head[12] = redis.call('LRANGE', KEYS[2], 0, -1)
  head[13] = redis.call('LRANGE', KEYS[3], 0, -1)
end
return head
