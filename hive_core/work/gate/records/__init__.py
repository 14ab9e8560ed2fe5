"""Tags, index and comments of proposals of work."""
