"""The backend `claude`: Claude Code, kept running between turns."""
