"""Events, metrics and the log of the daemon."""
