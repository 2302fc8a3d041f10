"""The local stack: all services as supervised processes on this machine, with ports, state and passwords."""
