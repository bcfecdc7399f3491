"""The control plane: turns Kubernetes objects into the proxy's configuration, and verdicts on them."""
