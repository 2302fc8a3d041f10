"""What is run: devices, links, users and policies, as a file that benchmarks, loads and simulations share."""
