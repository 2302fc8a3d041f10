"""Window controllers compared: over round-trip times, loads and recordings, and after a step in mid-run."""
