"""Conditions, Events and addresses: what the statuses of objects say."""
