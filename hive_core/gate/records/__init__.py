"""States, tags and index of proposals: writing a transition, and reading it back."""
