"""Features of Linux and the C library beyond Python's own modules."""
