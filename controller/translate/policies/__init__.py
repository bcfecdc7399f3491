"""What objects ask for beyond where they lead: one module per feature, each making one type of policy."""
