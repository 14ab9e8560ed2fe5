"""What of its own environment the harness gives to an agent CLI."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hive_agent.access.environment import session_environment
from hive_agent.backends.cli_launch import not_started, turn_environment
from hive_agent.environment import AgentEnvironment
from hive_agent.infra.turn_environment import child_environment
from hive_core.protocol import AgentConfig
from hive_core.protocol.access.opening import Opening


def test_what_the_agents_system_names_gets_in() -> None:
    """Variables that agent.nix sets are there in every turn, and nothing else that nobody names."""
    variables = {"EDITOR": "vim", "TZ": "UTC", "SECRET": "x", "HIVE_AGENT_ENVIRONMENT": "EDITOR TZ MISSING"}
    assert child_environment(variables, [], []) == {"EDITOR": "vim", "TZ": "UTC"}


def test_the_daemon_finds_what_a_killed_harness_left() -> None:
    """The two variables by which the daemon knows an agent's processes get into every program."""
    marks = {"HIVE_AGENT_RUN": "/run/x", "HIVE_PARENT_PID": "7"}
    assert child_environment(marks | {"HIVE_INSTANCE": "x"}, [], []) == marks


def test_turns_and_sessions_know_the_agents_directories() -> None:
    """Turns and sessions get the same variables with the directories of the agent."""
    variables = {"HIVE_AGENT_CODE": "/code", "HIVE_AGENT_SECRETS": "/nothing", "HIVE_BIND_DATA": "/binds/data"}
    assert turn_environment(AgentEnvironment.read(variables), (), AgentConfig()) == variables
    assert session_environment(variables, Opening("run")).items() >= variables.items()


def test_a_session_has_the_secrets_of_turns(tmp_path: Path) -> None:
    """A session gets the secrets that agent.toml names, as turns do, and no others."""
    (tmp_path / "NPM_TOKEN").write_text("value\n")
    (tmp_path / "OTHER").write_text("x")
    found = session_environment({"HIVE_AGENT_SECRETS": str(tmp_path)}, Opening("run", secrets=("NPM_TOKEN", "GONE")))
    assert found["NPM_TOKEN"] == "value" and "OTHER" not in found and "GONE" not in found


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, "shortage"),
        (errno.EDQUOT, "shortage"),
        (errno.ENOMEM, "shortage"),
        (errno.EAGAIN, "shortage"),
        (errno.EMFILE, "shortage"),
        (errno.EACCES, "no_program"),
        (errno.ENOEXEC, "no_program"),
    ],
)
def test_a_program_that_is_not_started(number: int, kind: str) -> None:
    """A program that only lacks something now is tried again soon; for the rest a person is needed."""
    failed = not_started("codex", OSError(number, os.strerror(number)))
    assert failed.kind == kind
    assert failed.detail.startswith("codex could not be started: ")


def test_secrets_reach_a_turn_as_they_are_now(tmp_path: Path) -> None:
    """A turn gets the secrets that agent.toml names, with their values of that moment, and no others."""
    agent = AgentEnvironment.read({"PATH": "/bin", "NPM_TOKEN": "old", "HIVE_AGENT_SECRETS": str(tmp_path)})
    config = AgentConfig(secrets=["NPM_TOKEN", "GONE", "BAD"])
    (tmp_path / "OTHER").write_text("x")
    (tmp_path / "BAD").write_bytes(b"a\0b")
    expected = {"PATH": "/bin", "HIVE_AGENT_SECRETS": str(tmp_path)}
    for content in (b"one\n", b"two", b"\xff\n\n"):
        (tmp_path / "NPM_TOKEN").write_bytes(content)
        found = turn_environment(agent, (), config)
        assert found == expected | {"NPM_TOKEN": os.fsdecode(content.rstrip(b"\n"))}
    (tmp_path / "NPM_TOKEN").unlink()
    assert turn_environment(agent, (), config) == expected
