"""The data plane: accepts connections, routes them by its own configuration, and knows nothing of Kubernetes."""
