"""Models of an agent's configuration."""
