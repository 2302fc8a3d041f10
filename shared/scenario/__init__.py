"""Scenarios: devices, links, users and policies in a file, for benchmarks, load generation and simulations."""
