"""Filters of requests before they go on: one module per feature, one ordering table."""
