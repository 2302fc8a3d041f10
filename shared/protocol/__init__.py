"""The protocol between processes: messages, limits, encoding, and the names of keys at the broker."""
