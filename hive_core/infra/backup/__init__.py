"""Backups of a state directory: one archive with the database, the applied repositories and the agents' files."""
