"""What rules and annotations ask for in common: one module per feature, each with its record."""
