"""Soak tests: users for an hour or more, while memory and the broker's keys must not grow."""
