"""What of its own environment the harness gives to an agent CLI."""

from __future__ import annotations

import errno
import os

import pytest

from hive_agent.backends.cli_launch import not_started
from hive_agent.infra.turn_environment import child_environment


def test_what_the_agents_system_names_gets_in() -> None:
    """Variables that agent.nix sets are there in every turn, and nothing else that nobody names."""
    variables = {"EDITOR": "vim", "TZ": "UTC", "SECRET": "x", "HIVE_AGENT_ENVIRONMENT": "EDITOR TZ MISSING"}
    assert child_environment(variables, [], []) == {"EDITOR": "vim", "TZ": "UTC"}


def test_the_daemon_finds_what_a_killed_harness_left() -> None:
    """The two variables by which the daemon knows an agent's processes get into every program."""
    marks = {"HIVE_AGENT_RUN": "/run/x", "HIVE_PARENT_PID": "7"}
    assert child_environment(marks | {"HIVE_INSTANCE": "x"}, [], []) == marks


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
