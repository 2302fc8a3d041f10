-- Append spans. KEYS: trace. ARGV: spans.
for _, span in ipairs(ARGV) do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', TRACE_CAP, '*', 'd', span)
end
redis.call('EXPIRE', KEYS[1], TRACE_KEPT_S)
return 1
