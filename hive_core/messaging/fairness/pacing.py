"""Delivery of a loop's messages at a slower pace, in order."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from hive_core.errors import HiveError
from hive_core.messaging.fairness.loops import LONGEST_DELAY, Loop, LoopDetector
from hive_core.protocol.names import MANAGER, OPERATOR, SYSTEM

_log = structlog.get_logger(__name__)
_NOT_AGENTS = frozenset({OPERATOR, SYSTEM})
_NOTHING: Mapping[str, int] = {}


class DelayedDelivery(NamedTuple):
    """A delivery that must not be handed out before `due`, in milliseconds."""

    sender: str
    recipient: str
    due: int


class Pacer:
    """Says from when on a message may be handed out. Messages from a sender to a recipient stay in order.

    Only messages between the agents of a loop are delayed, and what their senders send to the same recipients behind
    them. Everything is stored at once; the time from which on it may be handed out is stored with it.
    """

    def __init__(self, per_minute: int, clock: Callable[[], int], ticks: Callable[[], float]) -> None:
        """`clock` gives the time in milliseconds, `ticks` in seconds that never go back."""
        self.detector = LoopDetector(per_minute)
        self._per_minute = per_minute
        self._clock = clock
        self._ticks = ticks
        self._last: dict[tuple[str, str], int] = {}
        """The time at which the last delayed delivery of each pair is due."""
        self._due: dict[str, list[int]] = {}
        """A heap of the times at which delayed deliveries to each recipient are due."""

    def load(self, delayed: Iterable[DelayedDelivery]) -> None:
        """Add what the database holds when the daemon starts."""
        now, ticks = self._clock(), self._ticks()
        for sender, recipient, due in delayed:
            self._add((sender, recipient), due)
            if sender != recipient and sender not in _NOT_AGENTS:
                self.detector.reopen(sender, recipient, ticks + (due - now) / 1_000)

    def check(self, sender: str, recipients: Sequence[str]) -> None:
        """Raise `sending_too_fast` if a message would have to wait too long, because it belongs to a loop."""
        if sender in _NOT_AGENTS or not self.detector.loops:
            return
        delay = self.detector.delay(sender, recipients, self._ticks())
        if delay > LONGEST_DELAY:
            raise HiveError(
                "sending_too_fast",
                f"{sender} and others only answer each other, and their messages are delivered {self._per_minute} a "
                f"minute; those that wait take {math.ceil(delay)} s already, so this one was not stored",
                hint="do not answer messages that ask for nothing; what has to be decided, ask the operator",
                status=429,
            )

    def record(self, number: int, sender: str, recipients: Sequence[str]) -> tuple[Mapping[str, int], Loop | None]:
        """Record a message that is accepted; returns when which of its deliveries are due, and a loop that is new."""
        agents = [name for name in recipients if name != OPERATOR]
        if sender in _NOT_AGENTS or not agents:
            return _NOTHING, None
        delays, opened = self.detector.sent(number, sender, agents, self._ticks())
        if not delays and not self._last:
            return _NOTHING, opened
        now = self._clock()
        due: dict[str, int] = {}
        for name in agents:
            pair = (sender, name)
            at = max(now + math.ceil(delays.get(name, 0.0) * 1_000), self._last.get(pair, 0))
            if at > now:
                due[name] = at
                self._add(pair, at)
            else:
                self._last.pop(pair, None)
        return due, opened

    def next_due(self, recipient: str) -> int | None:
        """Return when the next delayed delivery to `recipient` is due, if any is."""
        waiting = self._due.get(recipient)
        if waiting is None:
            return None
        now = self._clock()
        while waiting and waiting[0] <= now:
            heapq.heappop(waiting)
        if not waiting:
            del self._due[recipient]
            return None
        return waiting[0]

    def set_reminder(self, name: str) -> None:
        """Record that an agent sets a reminder."""
        self.detector.set_reminder(name, self._ticks())

    def acknowledged(self, name: str, ids: Iterable[int]) -> None:
        """Record that an agent has handled messages."""
        self.detector.acknowledged(name, ids, self._ticks())

    def forget(self, name: str) -> None:
        """Discard everything about an agent that was purged."""
        self.detector.forget(name)
        self._due.pop(name, None)
        self._last = {pair: due for pair, due in self._last.items() if name not in pair}

    def notices(self, loop: Loop, agents: Sequence[str]) -> list[tuple[str, str]]:
        """Return the messages to the operator, and to a manager that is no part of it, about a new loop."""
        names = sorted(loop.members)
        members = f"{', '.join(names[:-1])} and {names[-1]}"
        text = (
            f"{members} only answer each other: {loop.links} messages in a row within {math.ceil(loop.seconds)} s. "
            f"From now on these are delivered {self._per_minute} a minute, in order, and none is dropped.\n"
            f"It ends when they stop answering. Read what they write: hive-c0re watch. To end it, tell them "
            f'(hive-c0re send {names[0]} "..."), or stop one: hive-c0re stop {names[0]}'
        )
        _log.warning("loop slowed", agents=names, links=loop.links, seconds=round(loop.seconds, 1))
        manager = [MANAGER] if MANAGER in agents and MANAGER not in loop.members else []
        return [(to, text) for to in (*manager, OPERATOR)]

    def _add(self, pair: tuple[str, str], due: int) -> None:
        self._last[pair] = max(due, self._last.get(pair, 0))
        heapq.heappush(self._due.setdefault(pair[1], []), due)
