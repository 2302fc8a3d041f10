"""Renders result files as one self-contained HTML page, and spans as a trace for Perfetto."""
