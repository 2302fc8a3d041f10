"""Objective `latency`: batches, draft length and bandwidth for the earliest end of a cohort's last answer."""
