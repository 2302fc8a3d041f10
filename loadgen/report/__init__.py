"""What result files show: one HTML page that opens offline, and a trace for Perfetto."""
