"""The planner on the command line: `outrider plan`, `outrider paper`."""
