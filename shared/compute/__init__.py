"""The protocols Drafter and TargetModel, with modelled backends. The real backends are in the services."""
