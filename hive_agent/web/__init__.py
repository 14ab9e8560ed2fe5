"""The agent's web page: its turns as they happen, and the operator's controls."""
