"""States, tags and index of proposals."""
