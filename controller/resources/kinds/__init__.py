"""One module per kind of object: its record, and the function that reads it from a raw one."""
