"""WebSockets: the handshake's checks, the frame scanner, the one closer, the tunnel."""
