"""What of its own environment the harness gives to an agent CLI."""

from __future__ import annotations

from hive_agent.backends.cli_launch import child_environment


def test_what_the_agents_system_names_gets_in() -> None:
    """Variables that agent.nix sets are there in every turn, and nothing else that nobody names."""
    variables = {"EDITOR": "vim", "TZ": "UTC", "SECRET": "x", "HIVE_AGENT_ENVIRONMENT": "EDITOR TZ MISSING"}
    assert child_environment(variables, [], []) == {"EDITOR": "vim", "TZ": "UTC"}


def test_the_daemon_finds_what_a_killed_harness_left() -> None:
    """The two variables by which the daemon knows an agent's processes get into every program."""
    marks = {"HIVE_AGENT_RUN": "/run/x", "HIVE_PARENT_PID": "7"}
    assert child_environment(marks | {"HIVE_INSTANCE": "x"}, [], []) == marks
