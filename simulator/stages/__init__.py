"""A target over several stages in a simulation: the deployed ranks, with modelled layers, links and machines."""
