"""The supervisor, its workers, and what goes between them."""
