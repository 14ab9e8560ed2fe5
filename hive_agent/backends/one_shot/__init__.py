"""Agent CLIs that are started for each turn: opencode, codex and gemini."""
