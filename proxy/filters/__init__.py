"""Filters of requests before they go on, and of answers on their way back: a module per feature, an ordering table per way."""
