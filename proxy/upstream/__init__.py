"""Endpoints, their connections, and the choice among them."""
