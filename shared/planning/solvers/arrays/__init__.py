"""A planning problem as arrays: users, batches, the options of a batch, and the score of a plan."""
