"""The DiP-SD paper's own solver and the mixed-integer programmes that it solves."""
