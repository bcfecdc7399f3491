"""What the commands `sluice` and `sluice-proxy` do before anything else. Nothing else belongs here."""
