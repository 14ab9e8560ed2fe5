"""What becomes of a container, as its unit tells: which end is a crash, and that each is told once."""

from __future__ import annotations

from dataclasses import replace

from hive_core.infra.systemd.units import UnitProperties
from hive_core.runtimes.base import UnitState
from hive_core.runtimes.nixos.containers.monitor import ContainerState

UNIT = "container@h-ada.service"
KILLED = 2


def unit(active: str, sub: str, run: str = "1", **more: object) -> UnitProperties:
    return replace(UnitProperties(UNIT, active, sub, invocation=run), **more)  # type: ignore[arg-type]


STARTING = unit("activating", "start")
RUNNING = unit("active", "running", main_pid=42)
STOPPING = unit("deactivating", "stop-sigterm", main_pid=42)
STOPPED = unit("inactive", "dead", code=1)
KILLING = unit("deactivating", "stop-sigterm", code=KILLED, status=9, result="signal")
WAITING = unit("activating", "auto-restart", code=KILLED, status=9, result="signal")
FAILED = unit("failed", "failed", code=KILLED, status=9, result="signal")


def running() -> ContainerState:
    """A container that was started on request."""
    container = ContainerState("ada")
    container.start_asked()
    told(container, STARTING, RUNNING)
    return container


def told(container: ContainerState, *states: UnitProperties) -> list[tuple[str, str]]:
    return words([change for state in states for change in container.look(state)])


def words(changes: list[UnitState]) -> list[tuple[str, str]]:
    return [(change.lifecycle, change.exit_cause) for change in changes]


def test_a_start_and_a_stop_are_no_crash() -> None:
    """What was asked for is told step by step, each once, however often systemd says it."""
    container = ContainerState("ada")
    steps = words(container.start_asked()) + told(container, STARTING, STARTING, RUNNING, RUNNING)
    container.stop_asked()
    steps += told(container, RUNNING, STOPPING, STOPPING, STOPPED, STOPPED)
    assert [step for step, _ in steps] == ["starting", "running", "stopping", "stopped"]
    assert container.state == UnitState("ada", "stopped", exit_cause="exit code 0", run=1)


def test_a_killed_container_is_one_crash() -> None:
    """It is told with its cause as soon as it has ended, once; and that the hive starts it again."""
    container = running()
    assert told(container, KILLING, FAILED, FAILED) == [("backoff", "killed by SIGKILL")]
    again = words(container.start_again())
    again += told(container, *(replace(state, invocation="2") for state in (STARTING, RUNNING)))
    assert [step for step, _ in again] == ["starting", "running"]
    assert container.state.restarts == 1 and container.state.pid == 42
    container.start_asked()
    assert container.state.restarts == 0


def test_a_crash_loop_is_told_crash_by_crash() -> None:
    """One start, one end; who is not to be told of all of them knows that best."""
    container = running()
    steps = told(container, FAILED)
    for run in "23":
        steps += words(container.start_again())
        steps += told(container, *(replace(state, invocation=run) for state in (STARTING, FAILED)))
    assert [step for step, _ in steps] == ["backoff", "starting"] * 2 + ["backoff"]


def test_what_systemd_starts_again_itself_is_told_as_well() -> None:
    """As it does with a container that an operator has given a drop-in of their own."""
    container = running()
    steps = told(container, FAILED, WAITING, *(replace(state, invocation="2") for state in (STARTING, RUNNING)))
    assert [step for step, _ in steps] == ["backoff", "starting", "running"]


def test_an_end_that_nobody_asked_for_is_a_crash_however_polite() -> None:
    """A container that shuts itself down, or is stopped behind the hive's back, has failed; one that reboots may."""
    assert told(running(), STOPPING, STOPPED) == [
        ("failed", "it shut itself down, or was stopped by somebody other than the hive")
    ]
    rebooting = unit("inactive", "dead", code=1, status=133)
    assert told(running(), rebooting) == [("backoff", "it rebooted by itself")]


def test_a_crash_that_was_missed_is_told_late() -> None:
    """While the bus was away a container ended and was started again: another run is there than before."""
    container = running()
    changes = told(container, replace(RUNNING, invocation="2", main_pid=43))
    assert changes[0][0] == "backoff" and "could not be heard" in changes[0][1]
    assert [step for step, _ in changes] == ["backoff", "running"]


def test_late_news_of_the_run_before_is_no_crash_of_the_new_one() -> None:
    """The end of the run that was stopped on request may be heard of when the next has been asked for."""
    container = running()
    container.stop_asked()
    told(container, replace(STOPPED, changed_usec=5))
    container.start_asked()
    assert told(container, replace(STOPPED, changed_usec=5), replace(STOPPING, changed_usec=4)) == []
    assert container.state.lifecycle == "starting"


def test_a_start_that_fails_is_a_crash() -> None:
    """One that ends before it was up, and one that could not even be tried."""
    container = ContainerState("ada")
    container.start_asked()
    assert told(container, STARTING, WAITING) == [("backoff", "killed by SIGKILL")]
    container = ContainerState("ada")
    container.start_asked()
    assert words(container.start_failed("no such unit")) == [("failed", "no such unit")]
    assert container.start_failed("no such unit") == []
    container.start_asked()
    assert words(container.start_failed("the bus is away", again=True)) == [("backoff", "the bus is away")]


def test_a_container_that_was_running_before_the_daemon_is_no_news() -> None:
    """It is known, and its next end is a crash."""
    container = ContainerState("ada")
    container.found(RUNNING)
    assert container.state.lifecycle == "running" and container.state.pid == 42
    assert told(container, RUNNING) == []
    assert told(container, WAITING) == [("backoff", "killed by SIGKILL")]


def test_a_crash_without_a_daemon_is_told_when_the_agent_is_started_again() -> None:
    """Not for one that is to be stopped anyway; and what it was before the hive first started it is nobody's news."""
    container = ContainerState("ada")
    container.found(FAILED)
    assert words(container.start_asked()) == [("backoff", "killed by SIGKILL"), ("starting", "")]
    container = ContainerState("ada")
    container.found(FAILED)
    assert words(container.stop_asked()) == [("stopped", "killed by SIGKILL")]
    container = ContainerState("ada")
    container.found(FAILED)
    steps = words(container.stop_asked(to_start=True) + container.start_asked())
    assert [step for step, _ in steps] == ["stopped", "backoff", "starting"]
    container = ContainerState("ada")
    assert told(container, FAILED) == []


def test_a_stop_that_came_to_nothing_excuses_no_crash() -> None:
    """What runs on after it is what was started; what has been seen to go down is stopped all the same."""
    container = running()
    container.stop_asked()
    container.stop_failed()
    assert told(container, FAILED) == [("backoff", "killed by SIGKILL")]
    container = running()
    container.stop_asked()
    told(container, STOPPING)
    container.stop_failed()
    assert told(container, STOPPED) == [("stopped", "exit code 0")]


def test_somebody_else_may_start_a_container() -> None:
    """It runs then, and the hive says so; what is on its way down is not taken for that."""
    container = running()
    container.stop_asked()
    assert told(container, RUNNING, STOPPING, STOPPED)[-1][0] == "stopped"
    again = told(container, replace(STARTING, invocation="2"), replace(RUNNING, invocation="2"))
    assert [step for step, _ in again] == ["starting", "running"]
    assert told(container, replace(WAITING, invocation="2"))[-1][0] == "backoff"
