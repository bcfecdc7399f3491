"""HTTP/1.1 on both sides of the proxy: the client's (http1_downstream.py) and the backend's (http1_connection.py)."""
