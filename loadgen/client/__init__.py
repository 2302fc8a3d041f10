"""The HTTP client: one streaming request, its server-sent events, and what each event says."""
