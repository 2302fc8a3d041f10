"""What travels between processes: messages, their limits, their bytes, and the names of keys."""
