"""What every kind is read with: typed access to raw fields, the schema, problems, names of objects."""
