"""When somebody is told of trouble."""

from __future__ import annotations

from hive_core.agents.incidents import Incidents
from hive_core.runtimes.base import UnitState

CRASH = UnitState("bob", "backoff", exit_cause="killed by SIGKILL")


def test_a_crash_loop_is_one_incident() -> None:
    """The first crash is told, with its cause; the next ones are not, until the agent has worked again."""
    incidents = Incidents()
    first = incidents.unit_changed(CRASH)
    assert first is not None and first.startswith("bob crashed (killed by SIGKILL)")
    assert incidents.unit_changed(CRASH) is None
    incidents.state_reported("bob", "idle")
    assert incidents.unit_changed(CRASH) is not None


def test_a_stop_on_request_is_no_incident() -> None:
    """An expected stop is not told, and ends the incident before it."""
    incidents = Incidents()
    incidents.unit_changed(CRASH)
    for lifecycle in ("stopping", "stopped", "starting", "running"):
        assert incidents.unit_changed(UnitState("bob", lifecycle)) is None
    assert incidents.unit_changed(CRASH) is not None


def test_a_missing_login_is_told_once() -> None:
    """An agent that retries its login every minute does not fill an inbox."""
    incidents = Incidents()
    told = [incidents.state_reported("bob", "needs_login") for _ in range(3)]
    assert [bool(text) for text in told] == [True, False, False]
