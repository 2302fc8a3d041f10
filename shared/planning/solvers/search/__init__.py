"""Solver `outrider`: joint dynamic programme, local search, draft lengths."""
