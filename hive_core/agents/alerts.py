"""Crashes of agents, and alerts about agents in trouble: one message per incident, not one per crash."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from hive_core.infra.processes import ListeningProcess
from hive_core.protocol import HarnessState
from hive_core.protocol.base import PAUSED_BY_OPERATOR
from hive_core.runtimes.base import UnitState
from hive_core.text import Quoted

Trouble = Literal["crashed", "looping", "needs_login", "failing", "paused", "starved", "pageless", "noticed"]

_QUIET_SECONDS = 600.0
_LASTING_SECONDS = 60.0
_SHOWN_DETAIL = 1_000
_NOTHING = Quoted("")
REPEATED = 3
"""Crashes in a row, without being ready between them, after which an agent counts as one that does not come up."""


@dataclass(frozen=True)
class Crash:
    """The last crash of an agent, and how many there were in a row.

    `last_line` is what its programs printed last before it; it comes from the agent and is not trusted.
    """

    run: int
    cause: str
    at: datetime
    in_a_row: int = 1
    last_line: str = ""


class CrashRecords:
    """The last crash of each agent since it was last ready, started on request or stopped."""

    def __init__(self) -> None:
        self._noted: dict[str, Crash] = {}
        self._complete: dict[str, Crash] = {}
        """Those whose last line is known, which takes a moment."""

    def last(self, name: str) -> Crash | None:
        """The last crash of the agent with its last line, None if there was none."""
        return self._complete.get(name)

    def forget(self, name: str) -> None:
        """Discard the agent's crashes, because it is ready or gone."""
        self._noted.pop(name, None)
        self._complete.pop(name, None)

    def note(self, unit: UnitState) -> Crash | None:
        """Record a change of the agent's process or container; returns the crash if it is one, for `complete`."""
        if unit.lifecycle in ("backoff", "failed"):
            last = self._noted.get(unit.name)
            crash = Crash(unit.run, unit.exit_cause, unit.since, 1 if last is None else last.in_a_row + 1)
            self._noted[unit.name] = crash
            return crash
        if unit.lifecycle == "stopped" or (unit.lifecycle == "starting" and not unit.restarts):
            self.forget(unit.name)
        return None

    def complete(self, name: str, crash: Crash, last_line: str) -> Crash:
        """Add the last line to a crash, which is returned. Crashes of an agent are completed in their order."""
        crash = replace(crash, last_line=last_line)
        noted = self._noted.get(name)
        if noted is not None and noted.run >= crash.run and noted.in_a_row >= crash.in_a_row:
            self._complete[name] = crash
        return crash


class Alerts:
    """Decides which changes are reported. An incident opens with the first sign of trouble and closes on recovery.

    A crash incident also closes when the agent is stopped on request. An incident that opens within ten minutes of the
    last message of its kind is reported only if it lasts longer: an agent must not fill an inbox by alternating.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives the time in seconds."""
        self._clock = clock
        self._open: set[tuple[str, Trouble]] = set()
        self._told: dict[tuple[str, Trouble], float] = {}
        self._failing_since: dict[str, float] = {}

    def forget(self, name: str) -> None:
        """Discard the incidents of an agent that was destroyed."""
        self._failing_since.pop(name, None)
        self._open = {incident for incident in self._open if incident[0] != name}
        self._told = {incident: at for incident, at in self._told.items() if incident[0] != name}

    def unit_changed(self, unit: UnitState) -> str | None:
        """The message, if this change opens an incident."""
        name = unit.name
        if unit.lifecycle in ("backoff", "failed"):
            next_step = "it is being restarted" if unit.lifecycle == "backoff" else "it is not restarted"
            text = f"{name} crashed ({unit.exit_cause}); {next_step}. See its logs: hive-c0re logs {name}"
            return self._opened(name, "crashed", text)
        if unit.oom_killed:
            text = (
                f"{name} ran out of memory: a process of its was killed, and it goes on. To allow it more: "
                f"hive-c0re limits {name} --memory SIZE, or memory_max in its agent.toml"
            )
            return self._opened(name, "starved", text)
        if unit.lifecycle in ("stopping", "stopped"):
            self._open -= {(name, "crashed"), (name, "looping")}
        return None

    def crashed_again(self, unit: UnitState, crash: Crash) -> str | None:
        """The message, if with this crash there were so many in a row that the agent seems unable to come up."""
        if unit.lifecycle != "backoff" or crash.in_a_row < REPEATED:
            return None
        name = unit.name
        text = (
            f"{name} does not come up: it has ended {crash.in_a_row} times in a row before it was ready, the last time "
            f"with: {crash.cause}. The hive tries it again, at longest every minute. See its logs (hive-c0re logs "
            f"{name}) and mend the cause, or stop it: hive-c0re stop {name}"
        )
        return self._opened(name, "looping", f"{text}\n{last_line(crash)}")

    def state_reported(self, name: str, state: HarnessState, detail: Quoted = _NOTHING) -> str | None:
        """The message, if this report opens an incident."""
        if state == "idle":
            self._failing_since.pop(name, None)
            self._open -= {(name, trouble) for trouble in get_args(Trouble) if trouble != "pageless"}
        if state == "needs_login":
            text = (
                f"{name} needs a login: its agent CLI has no valid credentials. Its messages wait until it has. "
                f"Log it in, if its agent CLI can: hive-c0re login {name}, or on its page: hive-c0re open {name}"
            )
            return self._opened(name, "needs_login", f"{text}\n{reason(detail)}")
        # Nobody is told of their own command. An agent that lies about it gains nothing: it could say "idle".
        if state == "paused" and detail != Quoted(PAUSED_BY_OPERATOR):
            text = (
                f"{name} is paused and waits for a person. Repair the cause, then let it go on: hive-c0re resume "
                f"{name}; or retry or skip the turn on its page: hive-c0re open {name}"
            )
            return self._opened(name, "paused", f"{text}\n{reason(detail)}")
        if (
            state == "failed"
            and self._clock() - self._failing_since.setdefault(name, self._clock()) >= _LASTING_SECONDS
        ):
            return self._opened(name, "failing", f"{name} cannot handle its messages.\n{reason(detail)}")
        return None

    def page_lacks_port(self, name: str, port: int, holder: ListeningProcess | None) -> str | None:
        """The message that another program has the port of the agent's page, unless that was told."""
        who = "another program" if holder is None else f"process {holder.pid}"
        text = (
            f"The page of {name} cannot be reached: {who} listens on port {port} of this host, which is its port. The "
            "agent works all the same. Have that program use another port; the hive takes this one when it is free"
        )
        if holder is not None:
            text += f"\nThe name of that process, which it chooses itself:\n{Quoted(holder.name).block(_SHOWN_DETAIL)}"
        return self._opened(name, "pageless", text)

    def page_has_port(self, name: str) -> None:
        """Close the incident of a page without a port."""
        self._open.discard((name, "pageless"))

    def noticed(self, name: str, notice: Quoted) -> str | None:
        """The message that passes on a notice of a harness, unless it gave another one lately."""
        text = f"The harness of {name} has a notice; nobody has to act on it. In its own words:"
        return self._opened(name, "noticed", f"{text}\n{notice.block(_SHOWN_DETAIL)}")

    def _opened(self, name: str, trouble: Trouble, text: str) -> str | None:
        incident, now = (name, trouble), self._clock()
        if incident in self._open or now - self._told.get(incident, -math.inf) < _QUIET_SECONDS:
            return None
        self._open.add(incident)
        self._told[incident] = now
        return text


def reason(detail: Quoted) -> str:
    """The reason that an agent gives, as lines of their own behind a sentence of the hive's."""
    return f"The reason, in its own words:\n{detail.block(_SHOWN_DETAIL, otherwise='(it does not say why)')}"


def last_line(crash: Crash) -> str:
    """The last line before a crash, as a line of its own behind a sentence of the hive's."""
    words = Quoted(crash.last_line).block(_SHOWN_DETAIL, otherwise="(it printed nothing)")
    return f"The last line that it printed, in its own words:\n{words}"
