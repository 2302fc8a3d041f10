"""Metrics of a run: latencies, goodput, knees, and what the services counted. Everything but the scrape is pure."""
