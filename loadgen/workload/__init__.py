"""The workload: arrival times, lengths and prompts, drawn from a seed before the first request is sent."""
