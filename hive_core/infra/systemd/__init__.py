"""Units over D-Bus, limits in systemd's terms, the journal, and sd_notify."""
