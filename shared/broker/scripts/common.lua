-- Prepended to every script, after the constants of script.py (GROUP, VERDICT.epoch, ...).

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The next number of a counter. It starts at the broker's clock, so that no number is repeated after a loss of data.
local function next_number(counter)
  if redis.call('EXISTS', counter) == 0 then
    redis.call('SET', counter, now_ms())
  end
  return redis.call('INCR', counter)
end

-- A name's heartbeat: its generation (digits) and message (nil in a foreign entry); nil when there is none. It is the
-- newest entry of a stream whose ids are "generation-number". A stream takes only growing ids, so XADD refuses an older
-- generation by itself, also from devices, which run no scripts.
local function heartbeat(alive)
  local entry = redis.call('XREVRANGE', alive, '+', '-', 'COUNT', 1)[1]
  if not entry then
    return nil
  end
  local message
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'd' then
      message = entry[2][i + 1]
    end
  end
  return string.match(entry[1], '^%d+'), message
end

-- A work stream that was just made may belong to a verifier that is dead already and sends no heartbeat.
local function let_expire(stream)
  if string.find(stream, STAGED, 1, true) then
    redis.call('EXPIRE', stream, INBOX_KEPT_S, 'NX')
  end
end

-- Work streams are read by a group and bounded by refusal, so this adds without trimming.
local function add_work(stream, data)
  redis.call('XADD', stream, '*', 'd', data)
  let_expire(stream)
end

-- Inboxes and replies are capped in number and age. They expire unless their reader's heartbeats extend the expiry.
-- added: {{stream, message}, ...}
local function add_inboxes(added)
  local expires, too_old = {}, now_ms() - INBOX_KEPT_S * 1000
  for _, pair in ipairs(added) do
    local stream = pair[1]
    redis.call('XADD', stream, 'MAXLEN', '~', INBOX_CAP, '*', 'd', pair[2])
    if not expires[stream] then
      redis.call('EXPIRE', stream, INBOX_KEPT_S, 'NX')
      redis.call('XTRIM', stream, 'MINID', '~', too_old)
      expires[stream] = true
    end
  end
end

-- XACK alone would leave the entry in the stream.
local function ack(stream, id)
  redis.call('XACK', stream, GROUP, id)
  redis.call('XDEL', stream, id)
end

-- End a session: it is not live any more, and its log expires LOG_KEPT_S from now.
local function finish_session(session, ids, logprobs, live, name, finish)
  redis.call('HSET', session, 'finish', finish)
  redis.call('SREM', live, name)
  for _, key in ipairs({session, ids, logprobs}) do
    redis.call('EXPIRE', key, LOG_KEPT_S)
  end
end
