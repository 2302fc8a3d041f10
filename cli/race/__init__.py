"""Benchmarks of policies on scenarios: real services and a real verifier, emulated devices."""
