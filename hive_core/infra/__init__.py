"""Files, processes, the database, git and systemd: nothing that is about agents, messages or proposals."""
