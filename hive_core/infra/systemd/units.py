"""Properties of units and their meaning, subscriptions to units, and jobs.

A run is the time of a unit from one start to the next, also for restarts by systemd after a crash. systemd gives each
run an invocation id (systemd.exec(5), $INVOCATION_ID), which stays until the next run begins. Properties are those of
org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hive_core.protocol import Lifecycle

UNKNOWN = 2**64 - 1
"""systemd's value for an unknown number or a limit that is not set."""
UNIT_STATE = (
    "ActiveState",
    "SubState",
    "ActiveEnterTimestamp",
    "InvocationID",
    "StateChangeTimestampMonotonic",
    "LoadState",
    "NeedDaemonReload",
)
SERVICE_STATE = (
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "MainPID",
    "ControlPID",
    "NRestarts",
    "ControlGroup",
    "MemoryCurrent",
    "CPUUsageNSec",
    "TasksCurrent",
)
STATE = (*UNIT_STATE, *SERVICE_STATE)
"""Properties that are read of units and of services."""
_EXITED, _KILLED, _DUMPED = 1, 2, 3
"""`si_code` of a child's end: CLD_EXITED, CLD_KILLED, CLD_DUMPED (waitid(2))."""
_RESULTS = {
    "oom-kill": "killed because it was out of memory",
    "watchdog": "killed because it did not answer its watchdog",
    "start-limit-hit": "it failed too often and is not started again",
    "exec-condition": "a condition for its start was not met",
    "resources": "the system lacked resources for its start",
    "protocol": "it ended before it reported that it was ready",
}


@dataclass(frozen=True)
class UnitProperties:
    """The state of a unit at one moment. Measurements are ignored when two states are compared.

    `active`, `sub` and `result` are systemd's terms. `code` (`si_code`, waitid(2)) and `status` (exit code or signal)
    describe the last end of the main process; `code` is 0 if it has not ended since the start. `main_pid` is 0 without
    a main process, `control_pid` without a control process. `since` is the time at which the unit last became active.
    `restarts` counts the starts by systemd after crashes. `invocation` is the id of the current or the last run, empty
    if there was none since systemd loaded the unit. `changed_usec` is the time of the last change of state on the
    monotonic clock, 0 if there was none.

    The other fields are set only by `SystemBus.properties`: `load` ("loaded", "not-found"), `needs_reload` (the unit's
    files have changed since systemd read them), the path of its control group, and its resource usage.
    """

    name: str
    active: str
    sub: str
    result: str = "success"
    code: int = 0
    status: int = 0
    main_pid: int = 0
    control_pid: int = 0
    since: datetime | None = None
    restarts: int = 0
    invocation: str = ""
    changed_usec: int = 0
    load: str = field(default="", compare=False)
    needs_reload: bool = field(default=False, compare=False)
    control_group: str = field(default="", compare=False)
    memory: int | None = field(default=None, compare=False)
    cpu_ns: int | None = field(default=None, compare=False)
    tasks: int | None = field(default=None, compare=False)


def read_properties(name: str, properties: Mapping[str, Any]) -> UnitProperties:
    """Convert the D-Bus properties of a service; missing ones count as unknown."""
    entered = int(properties.get("ActiveEnterTimestamp", 0))
    return UnitProperties(
        name=name,
        active=str(properties.get("ActiveState", "inactive")),
        sub=str(properties.get("SubState", "dead")),
        result=str(properties.get("Result", "success")),
        code=int(properties.get("ExecMainCode", 0)),
        status=int(properties.get("ExecMainStatus", 0)),
        main_pid=int(properties.get("MainPID", 0)),
        control_pid=int(properties.get("ControlPID", 0)),
        since=datetime.fromtimestamp(entered / 1_000_000, UTC) if entered else None,
        restarts=int(properties.get("NRestarts", 0)),
        invocation=bytes(properties.get("InvocationID", ())).hex(),
        changed_usec=int(properties.get("StateChangeTimestampMonotonic", 0)),
        load=str(properties.get("LoadState", "")),
        needs_reload=bool(properties.get("NeedDaemonReload", False)),
        control_group=str(properties.get("ControlGroup", "")),
        memory=_known(properties.get("MemoryCurrent")),
        cpu_ns=_known(properties.get("CPUUsageNSec")),
        tasks=_known(properties.get("TasksCurrent")),
    )


def _known(number: Any) -> int | None:
    return None if number is None or number == UNKNOWN else int(number)


def lifecycle(properties: UnitProperties) -> Lifecycle:
    """Return the unit's state as a lifecycle of the protocol. A unit that systemd will restart is in `backoff`."""
    # Since release 254 there are also failed-before-auto-restart, dead-before-auto-restart and auto-restart-queued.
    if "auto-restart" in properties.sub:
        return "backoff"
    match properties.active:
        case "active" | "reloading" | "refreshing":
            return "running"
        case "activating":
            return "starting"
        # While systemd starts a unit, it signals the new run and its processes before the change of state.
        case "inactive" if properties.main_pid or properties.control_pid:
            return "starting"
        case "deactivating":
            return "stopping"
        case "failed":
            return "failed"
        case _:
            return "stopped"


def has_ended(properties: UnitProperties) -> bool:
    """Return True if the run of `properties.invocation` has ended and none of its processes is left.

    False for a run without a failure or a main process: it was stopped before it began, or is about to begin.
    """
    at_rest = lifecycle(properties) in ("backoff", "failed", "stopped")
    return at_rest and (properties.result != "success" or properties.code != 0)


def describe_exit(properties: UnitProperties) -> str:
    """Describe the end of the last run: "exit code 1", "killed by SIGKILL", "killed because it was out of memory".

    Empty if the run has not ended, or systemd gives no reason. On a host with cgroup v1 systemd does not detect a lack
    of memory, and the description is "killed by SIGKILL".
    """
    result = properties.result
    if result in _RESULTS:
        return _RESULTS[result]
    how = _describe_end(properties.code, properties.status)
    if result == "timeout":
        late = "it did not start or stop in time"
        return f"{late}, {how}" if properties.code in (_KILLED, _DUMPED) else late
    if how:
        return how
    # Another process than the main process failed.
    return "" if result == "success" else f"failed ({result})"


def _describe_end(code: int, status: int) -> str:
    if code == _EXITED:
        return f"exit code {status}"
    if code not in (_KILLED, _DUMPED):
        return ""
    try:
        name = signal.Signals(status).name
    except ValueError:
        name = f"signal {status}"
    return f"killed by {name}" + (" (core dumped)" if code == _DUMPED else "")


@dataclass(frozen=True)
class Ended:
    """A run that has ended. `seen` is its last state, None if the next run began before it was read."""

    invocation: str
    seen: UnitProperties | None


def ended(before: UnitProperties | None, now: UnitProperties) -> list[Ended]:
    """Return the runs that ended between two states of a unit, in order.

    Each run is returned at most once, however often its last state is repeated, and none for a late `now` (older than
    `before`). Without `before`, a run that has already ended is returned, so that a new caller can handle it. Runs that
    were stopped on request are returned too: the caller distinguishes them from crashes.
    """
    if before is not None and is_late(before, now):
        return []
    runs = []
    if before is not None and before.invocation not in ("", now.invocation) and not has_ended(before):
        runs.append(Ended(before.invocation, None))
    known = before is not None and before.invocation == now.invocation and has_ended(before)
    if now.invocation and has_ended(now) and not known:
        runs.append(Ended(now.invocation, now))
    return runs


def is_late(before: UnitProperties, now: UnitProperties) -> bool:
    """Return True if `now` is older than `before` and arrived late."""
    return 0 < now.changed_usec < before.changed_usec


MOST_WAITING = 1_000


class UnitSubscription(AsyncIterator[UnitProperties]):
    """An iterator over new states of the units whose names begin with `prefix`.

    A slow reader loses intermediate states, but always gets the newest state of each unit.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._newest: dict[str, UnitProperties] = {}
        self._waiting: deque[UnitProperties] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    @property
    def known(self) -> list[str]:
        """Return the names of the units with a known state."""
        return list(self._newest)

    def put(self, state: UnitProperties) -> None:
        """Add a state of any unit; old, repeated and other units' states are ignored."""
        if self._ended or not state.name.startswith(self.prefix):
            return
        newest = self._newest.get(state.name)
        if newest is not None and (newest == state or is_late(newest, state)):
            return
        self._newest[state.name] = state
        self._waiting.append(state)
        if len(self._waiting) > MOST_WAITING:
            self._waiting = deque({waiting.name: waiting for waiting in self._waiting}.values())
        self._changed.set()

    def forget(self, name: str) -> None:
        """Forget the unit because systemd has unloaded it; later states belong to a new unit of that name."""
        self._newest.pop(name, None)

    def end(self) -> None:
        """End the iteration after the states that wait."""
        self._ended = True
        self._changed.set()

    async def __anext__(self) -> UnitProperties:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()


class Job:
    """A job with a waiting caller. `result` is systemd's term: "done", "failed", "timeout", "canceled", …

    It is empty if the job ended while the bus was not reachable.
    """

    def __init__(self) -> None:
        self.path = ""
        self.result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def set_path(self, answer: Sequence[str]) -> None:
        """Store the job's D-Bus path from systemd's answer."""
        (self.path,) = answer

    def end(self, result: str) -> None:
        if not self.result.done():
            self.result.set_result(result)


class Jobs:
    """The jobs with waiting callers."""

    def __init__(self) -> None:
        self._jobs: set[Job] = set()

    @contextmanager
    def expect(self) -> Iterator[Job]:
        """Yield a job that is about to be created. `set_path` must be called before any later signal is handled."""
        job = Job()
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)

    def end(self, path: str, result: str) -> None:
        """Set the result of the job at `path`, if a caller waits for it."""
        for job in self._jobs:
            if job.path == path:
                job.end(result)

    def close(self, error: Exception) -> None:
        """Fail all waiting jobs with `error`."""
        for job in self._jobs:
            if not job.result.done():
                job.result.set_exception(error)

    def paths(self) -> list[str]:
        """Return the paths of the jobs that have not ended, as far as is known."""
        return [job.path for job in self._jobs if job.path and not job.result.done()]
