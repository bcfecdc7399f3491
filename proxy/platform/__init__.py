"""What Linux and the C library offer beyond Python's own modules."""
