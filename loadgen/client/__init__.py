"""The HTTP client: streaming requests, server-sent events and completion events."""
