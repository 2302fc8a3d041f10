"""The shell every service shares: settings, logs, health and metrics, heartbeat, broker watch, shutdown."""
