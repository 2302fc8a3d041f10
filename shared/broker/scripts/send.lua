#!lua flags=allow-oom
-- Add to an inbox or reply stream.
-- KEYS: stream. ARGV: message.
add_inboxes({{KEYS[1], ARGV[1]}})
return 1
