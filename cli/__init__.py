"""The command line: one room per group of commands, and the modules that they share."""
