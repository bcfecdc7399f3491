"""Memory that all workers of a pod share: counters and sessions."""
