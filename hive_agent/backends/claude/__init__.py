"""Claude Code, kept running between turns."""
