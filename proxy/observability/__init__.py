"""Metrics and the access log, and how they add up over workers."""
