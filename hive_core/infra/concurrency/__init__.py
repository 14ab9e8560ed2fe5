"""Threads for each kind of blocking work, turns of callers, and results that callers share."""
