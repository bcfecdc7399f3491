"""Where objects come from: a folder, or the API server."""
