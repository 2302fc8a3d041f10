#!lua flags=allow-oom
-- A number never given before. KEYS: generation.
return next_number(KEYS[1])
