"""The backends whose agent CLI is started for each turn: opencode, codex and gemini."""
