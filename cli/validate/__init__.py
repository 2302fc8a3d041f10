"""`outrider validate`: the same scenarios live and simulated, and how far the simulation is off."""
