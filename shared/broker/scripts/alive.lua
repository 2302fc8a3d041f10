-- The heartbeats that exist. KEYS: alive, of each name. Returns their messages.
local found = {}
for _, key in ipairs(KEYS) do
  local _, data = heartbeat(key)
  if data then
    found[#found + 1] = data
  end
end
return found
