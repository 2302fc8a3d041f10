#!lua flags=allow-oom
-- Identity of the data: the server's run id, and when this data began. (An emptied server keeps its run id. A server
-- restarted with its data has another one, because the latest writes may be lost.)
-- KEYS: birth. Written only when it is of another run, so that a full broker still answers. Devices only read it.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local birth = redis.call('GET', KEYS[1])
if not birth or string.sub(birth, 1, #run) ~= run then
  local time = redis.call('TIME')
  birth = run .. '-' .. time[1] .. '.' .. time[2]
  redis.call('SET', KEYS[1], birth)
end
return birth
