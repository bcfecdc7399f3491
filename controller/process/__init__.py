"""What the controller does with its own processes: starting again, the fork that is the proxy, and memory."""
