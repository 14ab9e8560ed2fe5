"""Rules instead of a model."""
