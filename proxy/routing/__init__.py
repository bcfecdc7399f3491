"""Which route serves a request: pure look-ups by host, path and conditions."""
