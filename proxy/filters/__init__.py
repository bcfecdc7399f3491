"""What routes ask for before a request goes on: one module per feature, one ordering table."""
