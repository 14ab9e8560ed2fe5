"""Turns: selection of messages, attempts, reactions to failures, and history."""
