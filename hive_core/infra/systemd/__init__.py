"""What the daemon has to do with the systemd of its host."""
