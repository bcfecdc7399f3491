"""Accepting connections, and the look at a ClientHello before its handshake."""
