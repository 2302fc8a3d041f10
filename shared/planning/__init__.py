"""Policies, plans, estimates and cost laws: who is verified together, how far each user drafts. No clock, no I/O."""
