"""Backends, which run turns: Claude Code, opencode, codex, gemini, and the scripted one."""
