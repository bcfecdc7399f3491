"""What all workers of a pod count and know together."""
