"""One worker's state: what a configuration compiles to, and what is open."""
