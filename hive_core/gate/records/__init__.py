"""States, tags and index of proposals: how a state is written and read back."""
