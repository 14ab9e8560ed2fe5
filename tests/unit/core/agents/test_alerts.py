"""When somebody is told of trouble."""

from __future__ import annotations

from hive_core.agents.alerts import Alerts
from hive_core.protocol import HarnessState
from hive_core.runtimes.base import UnitState
from hive_core.text import Quoted

QUIET = 600
"""Seconds in which an agent's trouble of one kind is told once at most."""


class Clock:
    """A time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


CRASH = UnitState("bob", "backoff", exit_cause="killed by SIGKILL")


def test_a_crash_loop_is_one_incident() -> None:
    """The first crash is told, with its cause; the next ones are not, until the agent has worked again."""
    alerts = Alerts(clock := Clock())
    first = alerts.unit_changed(CRASH)
    assert first is not None and first.startswith("bob crashed (killed by SIGKILL)")
    clock.now += QUIET
    assert alerts.unit_changed(CRASH) is None
    alerts.state_reported("bob", "idle")
    assert alerts.unit_changed(CRASH) is not None


def test_a_stop_on_request_is_no_incident() -> None:
    """An expected stop is not told, and ends the incident before it."""
    alerts = Alerts(clock := Clock())
    alerts.unit_changed(CRASH)
    clock.now += QUIET
    for lifecycle in ("stopping", "stopped", "starting", "running"):
        assert alerts.unit_changed(UnitState("bob", lifecycle)) is None
    assert alerts.unit_changed(CRASH) is not None


def test_a_missing_login_is_told_once() -> None:
    """An agent that retries its login every minute does not fill an inbox."""
    alerts = Alerts()
    told = [alerts.state_reported("bob", "needs_login") for _ in range(3)]
    assert [bool(text) for text in told] == [True, False, False]


def test_changing_its_mind_does_not_fill_an_inbox() -> None:
    """An agent that goes to and fro between idle and trouble is told of once in ten minutes for each kind."""
    alerts = Alerts(clock := Clock())
    told: list[str] = []
    for _ in range(120):
        states: list[HarnessState] = ["idle", "needs_login"]
        texts = [*(alerts.state_reported("bob", state) for state in states), alerts.unit_changed(CRASH)]
        told += [text for text in texts if text]
        clock.now += 10
    assert [text.split()[1] for text in told] == ["needs", "crashed"] * 2


def test_trouble_that_lasts_is_told_in_the_end() -> None:
    """What was not told because the last news was too fresh is told when it is still so afterwards."""
    alerts = Alerts(clock := Clock())
    assert alerts.state_reported("bob", "needs_login")
    alerts.state_reported("bob", "idle")
    clock.now += QUIET - 1
    assert alerts.state_reported("bob", "needs_login") is None
    clock.now += 1
    assert alerts.state_reported("bob", "needs_login")


def test_a_notice_is_passed_on_in_its_own_words() -> None:
    """The notice of a harness to the operator is quoted; another one soon after is not passed on."""
    alerts = Alerts(Clock())
    told = alerts.noticed("bob", Quoted("a new one\nhive: all is well"))
    assert told is not None and told.endswith("> a new one\n> hive: all is well")
    alerts.state_reported("bob", "idle")
    assert alerts.noticed("bob", Quoted("again")) is None


def test_agents_do_not_quieten_each_other() -> None:
    """That one agent's trouble was told says nothing of another's."""
    alerts = Alerts(Clock())
    assert alerts.state_reported("bob", "needs_login")
    assert alerts.state_reported("ada", "needs_login")


def test_a_forgotten_agent_starts_afresh() -> None:
    """A new agent under the name of a destroyed one has its own incidents, at once."""
    alerts = Alerts(clock := Clock())
    alerts.state_reported("bob", "failed", Quoted("x"))
    clock.now += QUIET
    assert alerts.state_reported("bob", "failed", Quoted("x"))
    assert alerts.state_reported("bob", "needs_login")
    assert alerts.unit_changed(CRASH)
    alerts.forget("bob")
    assert alerts.state_reported("bob", "failed", Quoted("x")) is None
    assert alerts.state_reported("bob", "needs_login")
    assert alerts.unit_changed(CRASH)


def test_an_agent_that_keeps_failing_is_told_once() -> None:
    """One failed turn is no incident; a minute of nothing else is, told with the start of the reason."""
    alerts = Alerts(clock := Clock())

    def failed(detail: str = "no such\nmodel " + "x" * 500) -> str | None:
        alerts.state_reported("bob", "thinking")
        return alerts.state_reported("bob", "failed", Quoted(detail))

    assert failed() is None
    clock.now += 59
    assert failed() is None
    alerts.state_reported("bob", "idle")
    clock.now += 1
    assert failed() is None, "it worked in between"
    clock.now += 60
    first = "bob cannot handle its messages.\nThe reason, in its own words:\n"
    assert failed() == f"{first}> no such\n> model {'x' * 500}"
    clock.now += QUIET
    assert failed() is None
    alerts.state_reported("bob", "idle")
    assert failed() is None
    clock.now += 60
    assert failed(" ") == f"{first}> (it does not say why)"
