"""The local stack: all services as supervised processes on one machine, with their ports, state and passwords."""
