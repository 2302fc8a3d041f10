"""The workload: arrival times, lengths and prompts, all determined by a seed."""
