"""The meaning of a unit's properties."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.infra.systemd.units import (
    STATE,
    Ended,
    UnitProperties,
    describe_exit,
    ended,
    has_ended,
    is_late,
    lifecycle,
    read_properties,
)
from hive_core.protocol import Lifecycle

NAME = "container@h-ada.service"
UP = UnitProperties(NAME, "active", "running", main_pid=7, invocation="aa", changed_usec=10)
DOWN = replace(UP, active="failed", sub="failed", result="signal", code=2, status=9, main_pid=0, changed_usec=20)
WAITING = replace(DOWN, active="activating", sub="auto-restart", changed_usec=21)
BEGINNING = UnitProperties(NAME, "inactive", "dead", main_pid=8, restarts=1, invocation="bb", changed_usec=30)
AGAIN = replace(BEGINNING, active="active", sub="running", changed_usec=31)
DOWN_AGAIN = replace(DOWN, invocation="bb", restarts=1, changed_usec=40)


def runs(*states: UnitProperties) -> list[str]:
    """Return the runs that a reader of these states gets, if it keeps the newest state."""
    told = []
    newest: UnitProperties | None = None
    for state in states:
        told += [end.invocation for end in ended(newest, state)]
        if newest is None or not is_late(newest, state):
            newest = state
    return told


def test_properties_are_read() -> None:
    """D-Bus properties become one value, and numbers that systemd does not know are None."""
    properties = {
        "ActiveState": "active",
        "SubState": "running",
        "Result": "success",
        "ExecMainCode": 0,
        "ExecMainStatus": 0,
        "MainPID": 7,
        "NRestarts": 2,
        "ActiveEnterTimestamp": 1_700_000_000_500_000,
        "StateChangeTimestampMonotonic": 99,
        "InvocationID": [0xAB] * 16,
        "LoadState": "loaded",
        "NeedDaemonReload": True,
        "ControlGroup": "/system.slice/x",
        "MemoryCurrent": 2**64 - 1,
        "CPUUsageNSec": 5,
        "TasksCurrent": 3,
        "ControlPID": 0,
    }
    assert set(properties) == set(STATE)
    found = read_properties(NAME, properties)
    assert (found.active, found.sub, found.main_pid, found.restarts) == ("active", "running", 7, 2)
    assert found.since == datetime(2023, 11, 14, 22, 13, 20, 500_000, UTC)
    assert found.invocation == "ab" * 16
    assert (found.memory, found.cpu_ns, found.tasks) == (None, 5, 3)
    assert found.needs_reload
    assert found == replace(found, memory=1, cpu_ns=2, tasks=4)


def test_what_is_used_is_asked_for() -> None:
    """The properties that are converted are exactly those that are read from the bus."""
    looked_at = set()

    class Answer(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            looked_at.add(name)
            return default

    read_properties(NAME, Answer())
    assert looked_at == set(STATE)


def test_nothing_is_known_of_a_unit_that_never_was() -> None:
    """A unit without properties is stopped and has not ended."""
    nothing = read_properties(NAME, {})
    assert lifecycle(nothing) == "stopped"
    assert (nothing.since, nothing.memory, describe_exit(nothing), has_ended(nothing)) == (None, None, "", False)


@pytest.mark.parametrize(
    ("active", "sub", "expected"),
    [
        ("active", "running", "running"),
        ("reloading", "reload", "running"),
        ("activating", "start-pre", "starting"),
        ("activating", "auto-restart", "backoff"),
        ("activating", "auto-restart-queued", "backoff"),
        ("failed", "failed-before-auto-restart", "backoff"),
        ("inactive", "dead-before-auto-restart", "backoff"),
        ("deactivating", "stop-sigterm", "stopping"),
        ("failed", "failed", "failed"),
        ("inactive", "dead", "stopped"),
    ],
)
def test_lifecycle(active: str, sub: str, expected: Lifecycle) -> None:
    """Each state of old and new releases of systemd has a lifecycle."""
    assert lifecycle(UnitProperties(NAME, active, sub)) == expected


def test_a_unit_that_is_about_to_start_is_not_stopped() -> None:
    """A process in an inactive unit is a start, because systemd signals it before the change of state."""
    assert lifecycle(BEGINNING) == "starting"
    assert lifecycle(replace(BEGINNING, main_pid=0, control_pid=5)) == "starting"
    assert not has_ended(BEGINNING)


@pytest.mark.parametrize(
    ("result", "code", "status", "words"),
    [
        ("exit-code", 1, 3, "exit code 3"),
        ("success", 1, 0, "exit code 0"),
        ("signal", 2, 9, "killed by SIGKILL"),
        ("signal", 2, 64, "killed by SIGRTMAX"),
        ("signal", 2, 99, "killed by signal 99"),
        ("core-dump", 3, 11, "killed by SIGSEGV (core dumped)"),
        ("oom-kill", 2, 9, "killed because it was out of memory"),
        ("timeout", 2, 9, "it did not start or stop in time, killed by SIGKILL"),
        ("timeout", 0, 0, "it did not start or stop in time"),
        ("watchdog", 2, 6, "killed because it did not answer its watchdog"),
        ("start-limit-hit", 1, 1, "it failed too often and is not started again"),
        ("exit-code", 0, 0, "failed (exit-code)"),
        ("success", 0, 0, ""),
    ],
)
def test_exit_words(result: str, code: int, status: int, words: str) -> None:
    """The end of a run is described in terms that operators know."""
    assert describe_exit(replace(DOWN, result=result, code=code, status=status)) == words


def test_a_crash_is_told_once() -> None:
    """A run that ended is returned once, despite repeated and later states."""
    assert runs(UP, DOWN, DOWN, WAITING, WAITING, BEGINNING, AGAIN, AGAIN) == ["aa"]
    assert runs(UP, DOWN, WAITING, BEGINNING, AGAIN, DOWN_AGAIN) == ["aa", "bb"]


def test_a_crash_that_nobody_saw_is_told() -> None:
    """A run that ended during an interruption is returned without a cause when the next run is seen."""
    assert ended(UP, AGAIN) == [Ended("aa", None)]
    assert ended(UP, DOWN_AGAIN) == [Ended("aa", None), Ended("bb", DOWN_AGAIN)]
    assert ended(UP, UnitProperties(NAME, "inactive", "dead")) == [Ended("aa", None)]
    assert ended(None, DOWN) == [Ended("aa", DOWN)]


def test_late_news_are_no_crash() -> None:
    """A state that is older than the newest one returns no run."""
    assert runs(AGAIN, DOWN, WAITING, UP) == []
    assert runs(UP, DOWN, AGAIN, DOWN) == ["aa"]


@given(st.data())
def test_any_repetition_and_loss_tells_each_crash_at_most_once(data: st.DataObject) -> None:
    """With lost or repeated states, each run is returned at most once, and the end of the last run is not missed."""
    story = [UP, DOWN, WAITING, BEGINNING, AGAIN, DOWN_AGAIN]
    kept = [UP, *(state for state in story for _ in range(data.draw(st.integers(0, 2)))), DOWN_AGAIN]
    told = runs(*kept)
    assert told == ["aa", "bb"]
