"""The import of submitted commits."""
