"""Who is verified together, and how far each user drafts: policies, estimates and cost laws. Pure; no clock, no I/O."""
