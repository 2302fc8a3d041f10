"""`outrider record`: what a draft model does along its target's texts."""
