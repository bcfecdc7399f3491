"""What the controller does with its own processes: starting again, and memory."""
