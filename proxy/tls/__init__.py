"""TLS towards clients: the ClientHello, contexts, and which certificate a host gets."""
