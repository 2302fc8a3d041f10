"""The broker: streams, the session log, heartbeats. One contract, a Redis client and an in-memory twin."""
