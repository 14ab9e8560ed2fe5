"""What of its own environment the harness gives to an agent CLI."""

from __future__ import annotations

from hive_agent.backends.child_environment import environment


def test_what_the_agents_system_names_gets_in() -> None:
    """Variables that agent.nix sets are there in every turn, and nothing else that nobody names."""
    variables = {"EDITOR": "vim", "TZ": "UTC", "SECRET": "x", "HIVE_AGENT_ENVIRONMENT": "EDITOR TZ MISSING"}
    assert environment(variables, [], []) == {"EDITOR": "vim", "TZ": "UTC"}
