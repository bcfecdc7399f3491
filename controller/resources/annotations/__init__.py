"""Annotations, by key: what each means, and what is said of those that are not read."""
