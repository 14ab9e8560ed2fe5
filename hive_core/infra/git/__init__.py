"""Git repositories that only the daemon writes, and the quarantine for objects from repositories that agents write."""
