"""Objective `goodput`: draft lengths and shares of a cell together, for devices that upload their drafts."""
