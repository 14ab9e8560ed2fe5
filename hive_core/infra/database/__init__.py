"""The SQLite database, its migrations and the audit log."""
