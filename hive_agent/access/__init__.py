"""The agent's side of sessions: commands, files and connections of people who step into the agent.

A program of its own, started when somebody comes, so that an agent whom nobody visits pays nothing. It is not a part of
the harness: it works while a turn runs, and in a container also while the harness is restarted.
"""
