"""Work on repositories: what comes in, and results that pass a gate of their own before they land."""
