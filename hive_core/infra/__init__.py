"""Files, processes, the database, git and systemd: nothing here knows of agents, messages or proposals."""
