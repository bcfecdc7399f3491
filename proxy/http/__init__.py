"""One request and its answer, free of any wire version."""
