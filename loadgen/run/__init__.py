"""Running a workload: options, plan, load loops, sweeps, and the measurement of the load generator's own limit."""
