"""The client of the daemon's API on `core.sock`."""
