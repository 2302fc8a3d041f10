"""The protocols Drafter and TargetModel, with modelled backends; the real backends live in services."""
