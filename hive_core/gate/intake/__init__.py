"""The import of commits from untrusted repositories into applied ones."""
