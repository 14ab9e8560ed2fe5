"""Commands about the daemon and its host."""
