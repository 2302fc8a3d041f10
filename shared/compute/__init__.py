"""Compute behind two protocols, Drafter and TargetModel, with modelled backends; the real ones live in services."""
