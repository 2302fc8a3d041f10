#!lua flags=allow-oom
-- Identity of the data: the server's own run, and when this data began (an emptied server keeps its run).
-- KEYS: birth. Written only when missing, so that a full broker can still be asked.
local birth = redis.call('GET', KEYS[1])
if not birth then
  local time = redis.call('TIME')
  birth = time[1] .. '.' .. time[2]
  redis.call('SET', KEYS[1], birth)
end
return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. '-' .. birth
