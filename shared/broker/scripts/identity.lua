#!lua flags=allow-oom
-- Identity of the data: the server's own run, and when this data began (an emptied server keeps its run; one that was
-- started again with its data is another run, for it may have forgotten the latest of it).
-- KEYS: birth. Written only when it is not of this run, so that a full broker can still be asked. Devices just read it.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local birth = redis.call('GET', KEYS[1])
if not birth or string.sub(birth, 1, #run) ~= run then
  local time = redis.call('TIME')
  birth = run .. '-' .. time[1] .. '.' .. time[2]
  redis.call('SET', KEYS[1], birth)
end
return birth
