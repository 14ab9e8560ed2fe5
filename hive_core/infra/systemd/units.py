"""Properties of units and their meaning, watches, jobs.

A run is one life of a unit between a start and the next, also those that systemd makes after a crash; systemd gives
each an invocation id (systemd.exec(5), $INVOCATION_ID), which stays after the run has ended until the next begins.
Properties are those of org.freedesktop.systemd1(5).
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
"""How systemd says that it does not know a number, or that a limit is not set."""
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
"""The properties that are read, of every unit and of services."""
_EXITED, _KILLED, _DUMPED = 1, 2, 3
"""`si_code` of a child's end: CLD_EXITED, CLD_KILLED, CLD_DUMPED (waitid(2))."""
_RESULTS = {
    "oom-kill": "killed because it was out of memory",
    "watchdog": "killed because it did not answer its watchdog",
    "start-limit-hit": "it failed too often and is not started again",
    "exec-condition": "a condition for its start did not hold",
    "resources": "the system could not give it what it needs to start",
    "protocol": "it ended without telling that it was ready",
}


@dataclass(frozen=True)
class UnitProperties:
    """A unit at one moment. Two are equal if they tell the same state; what is measured does not count.

    `active`, `sub` and `result` are systemd's words. `code` (`si_code`, waitid(2)) and `status` (exit code or signal)
    tell how the main process ended last; `code` is 0 if none has since the start. `main_pid` is 0 without one, and so
    is `control_pid`, that of a command beside it. `since` is when the unit last became active. `restarts` counts the
    starts that systemd made after crashes. `invocation` is the current run or the last one, empty if there was none
    since systemd loaded the unit. `changed_usec`: when the state last changed, on the monotonic clock; 0 if never.
    What follows is known only when it was asked for (`SystemBus.properties`): `load` ("loaded", "not-found"), whether
    it `needs_reload` (systemd has not read its files since they changed), the path of its control group, what it uses.
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
    """Read the properties of a service as D-Bus gives them; what is missing is taken for not known."""
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
    """The unit's state in the words of the hive. A unit that systemd is about to start again waits in `backoff`."""
    # Since release 254 there are also failed-before-auto-restart, dead-before-auto-restart and auto-restart-queued.
    if "auto-restart" in properties.sub:
        return "backoff"
    match properties.active:
        case "active" | "reloading" | "refreshing":
            return "running"
        case "activating":
            return "starting"
        # While systemd starts a unit, it tells of the new run and its processes before it changes the state.
        case "inactive" if properties.main_pid or properties.control_pid:
            return "starting"
        case "deactivating":
            return "stopping"
        case "failed":
            return "failed"
        case _:
            return "stopped"


def has_ended(properties: UnitProperties) -> bool:
    """Whether the run that `properties.invocation` names has ended: nothing of it runs any more.

    False for one that ended well without a main process: it was stopped before it had begun, or is about to begin.
    """
    at_rest = lifecycle(properties) in ("backoff", "failed", "stopped")
    return at_rest and (properties.result != "success" or properties.code != 0)


def describe_exit(properties: UnitProperties) -> str:
    """How the last run ended: "exit code 1", "killed by SIGKILL", "killed because it was out of memory".

    Empty if it has not ended, and where systemd does not tell. On a host with the old control groups (v1) systemd
    does not notice that memory ran out: the words are "killed by SIGKILL" then.
    """
    result = properties.result
    if result in _RESULTS:
        return _RESULTS[result]
    how = _how(properties.code, properties.status)
    if result == "timeout":
        late = "it did not start or stop in time"
        return f"{late}, {how}" if properties.code in (_KILLED, _DUMPED) else late
    if how:
        return how
    # The main process gave no reason: one of those beside it did.
    return "" if result == "success" else f"failed ({result})"


def _how(code: int, status: int) -> str:
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
    """A run that is over. `seen` is how it ended; None if the next run had begun before anybody looked."""

    invocation: str
    seen: UnitProperties | None


def ended(before: UnitProperties | None, now: UnitProperties) -> list[Ended]:
    """The runs that ended between two looks at a unit, each the newest so far, in order.

    Each run is told of at most once, however often its last state is repeated, and a late `now` (older than `before`)
    tells of none. Without `before` a run that is over already is told of, so that one who comes back can decide. What
    was asked to stop ends, too: whether it was a crash is for the caller to know.
    """
    if before is not None and is_late(before, now):
        return []
    found = []
    if before is not None and before.invocation not in ("", now.invocation) and not has_ended(before):
        found.append(Ended(before.invocation, None))
    told = before is not None and before.invocation == now.invocation and has_ended(before)
    if now.invocation and has_ended(now) and not told:
        found.append(Ended(now.invocation, now))
    return found


def is_late(before: UnitProperties, now: UnitProperties) -> bool:
    """Whether `now` was true before `before` was, and so says nothing about how things are."""
    return 0 < now.changed_usec < before.changed_usec


MOST_WAITING = 1_000


class UnitSubscription(AsyncIterator[UnitProperties]):
    """States of the units whose names begin with `prefix`, each different from the unit's one before and newer.

    One that reads too slowly loses what lies between: the newest state of each unit is always kept.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._newest: dict[str, UnitProperties] = {}
        self._waiting: deque[UnitProperties] = deque()
        self._news = asyncio.Event()
        self._ended = False

    @property
    def known(self) -> list[str]:
        """Names of the units that were heard of and not forgotten."""
        return list(self._newest)

    def put(self, state: UnitProperties) -> None:
        """Take a state of any unit."""
        if self._ended or not state.name.startswith(self.prefix):
            return
        newest = self._newest.get(state.name)
        if newest is not None and (newest == state or is_late(newest, state)):
            return
        self._newest[state.name] = state
        self._waiting.append(state)
        if len(self._waiting) > MOST_WAITING:
            self._waiting = deque({waiting.name: waiting for waiting in self._waiting}.values())
        self._news.set()

    def forget(self, name: str) -> None:
        """systemd has unloaded the unit: what it tells of it from now on is about a new one."""
        self._newest.pop(name, None)

    def end(self) -> None:
        """Nothing more will come: what waits is still handed out."""
        self._ended = True
        self._news.set()

    async def __anext__(self) -> UnitProperties:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


class Job:
    """A job that somebody waits for. `result` is systemd's word: "done", "failed", "timeout", "canceled", …

    It is empty if the job ended while nobody could hear of it.
    """

    def __init__(self) -> None:
        self.path = ""
        self.result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def named(self, answer: Sequence[str]) -> None:
        """systemd has made the job, and called it so."""
        (self.path,) = answer

    def end(self, result: str) -> None:
        if not self.result.done():
            self.result.set_result(result)


class Jobs:
    """All jobs that somebody waits for."""

    def __init__(self) -> None:
        self._jobs: set[Job] = set()

    @contextmanager
    def awaited(self) -> Iterator[Job]:
        """A job that is to be made: what `named` is told before any later signal is heard."""
        job = Job()
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)

    def removed(self, path: str, result: str) -> None:
        """A job, anybody's, is over."""
        for job in self._jobs:
            if job.path == path:
                job.end(result)

    def close(self, error: Exception) -> None:
        """Nobody will hear of jobs any more: those who wait get `error`."""
        for job in self._jobs:
            if not job.result.done():
                job.result.set_exception(error)

    def paths(self) -> list[str]:
        """The jobs that have been made and are not over, as far as was heard."""
        return [job.path for job in self._jobs if job.path and not job.result.done()]
