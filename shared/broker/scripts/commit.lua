#!lua flags=allow-oom
-- The answer to one staged batch: append each row's tokens or answer it otherwise, send the verdicts, acknowledge
-- the batch. KEYS: verdicts, staged, live, then per row: session, ids, logprobs, device's inbox, gateway's
-- reply (`live` in place of an inbox: no receiver). ARGV: entry id ('' = none), then per row: Verdict.
-- Returns {outcome, committed length, outcome, committed length, ...}, see CommitOutcome.
local VERDICTS, STAGED, LIVE = KEYS[1], KEYS[2], KEYS[3]

local to_gateways, to_scheduler, to_devices = {}, {}, {} -- {stream, message}, sent at the end
local scheduler_moves = false -- a session's device does not draft next, so the scheduler stages its next row

local function message(verdict)
  return VERSION .. cmsgpack.pack(verdict)
end

-- Committed tokens from a position on.
local function tokens_from(row, position)
  local tokens = {}
  for i, token in ipairs(redis.call('LRANGE', row.ids, position - row.prompt_len, -1)) do
    tokens[i] = tonumber(token)
  end
  return tokens
end

local function send_to_scheduler(verdict)
  verdict[VERDICT.tokens], verdict[VERDICT.logprobs] = {}, {}
  to_scheduler[#to_scheduler + 1] = {VERDICTS, message(verdict)}
end

local MAX_UNSENT = 2 * BLOCK_TOKENS

-- A device that drafts nothing next gets many tokens at once: at the end of a block of BLOCK_TOKENS, or when it drafts
-- again. Until then the session's `untold` is the position of the first token that it has not got.
local function deferred(verdict)
  local block = math.floor(verdict[VERDICT.base_len] / BLOCK_TOKENS)
  return verdict[VERDICT.next_k] == 0 and verdict[VERDICT.tree] == 0 and verdict[VERDICT.finish] == ''
    and math.floor(verdict[VERDICT.length] / BLOCK_TOKENS) == block
end

local function send_to_device(row, verdict, full)
  local logprobs, data = verdict[VERDICT.logprobs], full
  verdict[VERDICT.logprobs] = {}
  local behind = row.untold and verdict[VERDICT.base_len] - row.untold or 0
  if behind > 0 and behind <= MAX_UNSENT then -- further behind: another device had them, or this one will find a gap
    verdict[VERDICT.base_len], verdict[VERDICT.tokens] = row.untold, tokens_from(row, row.untold)
    data = message(verdict)
  elseif #logprobs > 0 then
    data = message(verdict)
  end
  if row.untold then
    redis.call('HDEL', row.session, 'untold')
  end
  to_devices[#to_devices + 1] = {row.device, data}
end

-- full: the gateway's bytes. The device gets no logprobs, the scheduler neither logprobs nor tokens.
local function send_copies(row, verdict, full)
  if row.gateway ~= LIVE then
    to_gateways[#to_gateways + 1] = {row.gateway, full}
  end
  if row.device ~= LIVE then
    local base_len = verdict[VERDICT.base_len]
    if deferred(verdict) then
      redis.call('HSETNX', row.session, 'untold', base_len)
    else
      send_to_device(row, verdict, full)
      verdict[VERDICT.base_len] = base_len -- the device's copy may begin earlier
    end
  end
  send_to_scheduler(verdict)
end

local function append(row, key, values)
  local length
  for first = 1, #values, 1000 do -- unpack is bounded by Lua's stack
    length = redis.call('RPUSH', key, unpack(values, first, math.min(first + 999, #values)))
  end
  if length == #values then -- a new list: it expires with its session
    redis.call('PEXPIREAT', key, redis.call('PEXPIRETIME', row.session))
  end
end

local function commit(row, verdict)
  local entries = {}
  for i, entry in ipairs(verdict[VERDICT.logprobs]) do
    entries[i] = cmsgpack.pack(entry)
  end
  append(row, row.ids, verdict[VERDICT.tokens])
  append(row, row.logprobs, entries)
  local finish = verdict[VERDICT.finish]
  scheduler_moves = scheduler_moves or finish == '' and verdict[VERDICT.next_k] == 0
  if finish ~= '' then
    finish_session(row.session, row.ids, row.logprobs, LIVE, verdict[VERDICT.session], finish)
  end
  send_copies(row, verdict, row.data)
end

-- Send the log from base_len on again. Receivers apply it by absolute positions.
local function answer(row, verdict, prompt_len, length, finish)
  local from = math.max(0, verdict[VERDICT.base_len] - prompt_len)
  local tokens, logprobs = tokens_from(row, prompt_len + from), {}
  for i, entry in ipairs(redis.call('LRANGE', row.logprobs, from, -1)) do
    logprobs[i] = cmsgpack.unpack(entry)
  end
  verdict[VERDICT.base_len], verdict[VERDICT.length] = prompt_len + from, length
  verdict[VERDICT.tokens], verdict[VERDICT.logprobs] = tokens, logprobs
  verdict[VERDICT.drafted], verdict[VERDICT.accepted], verdict[VERDICT.straight] = 0, 0, 0
  verdict[VERDICT.fused_drafted], verdict[VERDICT.fused_accepted] = 0, 0
  verdict[VERDICT.keeps], verdict[VERDICT.tree] = false, 0 -- whoever kept it may have lost it
  verdict[VERDICT.finish] = finish
  if finish ~= '' then
    verdict[VERDICT.next_k] = 0
  end
  local full = message(verdict)
  if #full > MAX_MESSAGE_BYTES then -- a gap instead: a receiver that lacks tokens reads the log
    verdict[VERDICT.base_len], verdict[VERDICT.tokens], verdict[VERDICT.logprobs] = length, {}, {}
    full = message(verdict)
  end
  send_copies(row, verdict, full)
end

local function refuse(verdict, length, reason)
  verdict[VERDICT.status], verdict[VERDICT.message] = 'error', reason
  verdict[VERDICT.length], verdict[VERDICT.finish] = length, ''
  send_to_scheduler(verdict)
end

local function commit_row(row)
  local verdict = row.verdict
  local log = redis.call('HMGET', row.session, 'epoch', 'prompt_len', 'finish', 'untold')
  local epoch, prompt_len, finish = tonumber(log[1]), tonumber(log[2]), log[3]
  row.prompt_len, row.untold = prompt_len, tonumber(log[4])
  local length = epoch and prompt_len + redis.call('LLEN', row.ids) or 0
  if verdict[VERDICT.status] ~= 'ok' then
    send_to_scheduler(verdict)
    return 'told', length
  elseif not epoch then
    return 'unknown', 0
  elseif verdict[VERDICT.epoch] < epoch then
    return 'stale', length
  end
  local base_len = verdict[VERDICT.base_len]
  if verdict[VERDICT.epoch] > epoch or base_len > length then
    refuse(verdict, length, string.format('row of epoch %d after %d tokens; the log has epoch %d and %d tokens',
      verdict[VERDICT.epoch], base_len, epoch, length))
    return 'ahead', length
  elseif base_len < length or finish ~= '' then
    answer(row, verdict, prompt_len, length, finish)
    return 'answered', length
  end
  local added = #verdict[VERDICT.tokens]
  commit(row, verdict)
  return 'committed', length + added
end

-- Every row is unpacked before the first write, so that an invalid row leaves nothing half done.
local rows = {}
for i = 1, #ARGV - 1 do
  local at = 3 + 5 * (i - 1)
  rows[i] = {
    data = ARGV[i + 1], verdict = cmsgpack.unpack(string.sub(ARGV[i + 1], 2)),
    session = KEYS[at + 1], ids = KEYS[at + 2], logprobs = KEYS[at + 3],
    device = KEYS[at + 4], gateway = KEYS[at + 5],
  }
end
local outcomes = {}
for _, row in ipairs(rows) do
  local outcome, length = commit_row(row)
  outcomes[#outcomes + 1] = outcome
  outcomes[#outcomes + 1] = length
end
-- A server answers waiting readers in reverse order, so the process with the next move is written to last.
add_inboxes(to_gateways)
if scheduler_moves then
  add_inboxes(to_devices)
end
for _, pair in ipairs(to_scheduler) do
  add_work(pair[1], pair[2])
end
if not scheduler_moves then
  add_inboxes(to_devices)
end
if ARGV[1] ~= '' then
  ack(STAGED, ARGV[1])
end
return outcomes
