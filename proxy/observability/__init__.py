"""What is counted and logged, and how it adds up over workers."""
