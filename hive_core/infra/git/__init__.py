"""Git repositories that only the daemon writes, and taking in objects from where agents write."""
