-- Replace a small hash. KEYS: hash. ARGV: fields and values.
redis.call('DEL', KEYS[1])
if #ARGV > 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV))
end
return 1
