"""What runs on the host: sent over with each call, never installed; standard library only, Python 3.10."""
