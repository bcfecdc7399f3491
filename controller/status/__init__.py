"""What the owners of objects are told."""
