"""Serving strategies without a fixed cycle: how users are modelled, how a strategy is simulated, which one is best."""
