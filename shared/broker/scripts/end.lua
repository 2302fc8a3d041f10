#!lua flags=allow-oom
-- End a session and send Close. A repetition does everything again except for setting the finish.
-- KEYS: session, ids, logprobs, live, then the verifier's stream and the inboxes of device and gateway, where
-- there are any. ARGV: name, finish, Close, bound, 'verifier' or '' (whether KEYS[5] is a verifier's stream).
-- Returns 1 when the session was live.
local was_live = redis.call('SREM', KEYS[4], ARGV[1])
if redis.call('HGET', KEYS[1], 'finish') == '' then -- exists and has not finished
  finish_session(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2])
end
local inboxes = 5
if ARGV[5] == 'verifier' then
  inboxes = 6
  -- A session must end even when the stream is full. The verifier then evicts its pages when it needs them.
  if redis.call('XLEN', KEYS[5]) < tonumber(ARGV[4]) then
    add_work(KEYS[5], ARGV[3])
  end
end
for i = inboxes, #KEYS do
  add_inboxes({{KEYS[i], ARGV[3]}})
end
return was_live
