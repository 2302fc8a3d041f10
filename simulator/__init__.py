"""The deployed services on virtual time, with modelled links and compute. docs/simulator.md says what is real."""
