"""What the proxy may ask for, and what it acknowledged."""
