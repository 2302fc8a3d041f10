"""`outrider calibrate`: what drafting, verifying and the broker cost on this machine, as a profile for planners."""
