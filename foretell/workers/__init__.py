"""Several processes on one port: a supervisor that keeps workers alive, and how the two speak."""
