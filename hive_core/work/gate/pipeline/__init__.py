"""The steps of proposals of work."""
