"""Trains the window controller `awc`: sweeps the simulator, labels what it saw, fits a network."""
