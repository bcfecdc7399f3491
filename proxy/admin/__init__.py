"""The proxy's own doors: the admin port, and the unix socket of `sluice sockets` and `sluice drain`."""
