"""HTTP/1.1 on both sides of the proxy: the client's (server.py) and the backend's (http1_connection.py)."""
