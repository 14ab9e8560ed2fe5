"""Loops: agents that answer each other's messages without end. Pure: no clock, no I/O.

A message is a link of a chain if its sender handled another agent's message when it sent it. Each link adds 1 to the
pressure of its chain, and time takes the allowed rate from it. So a chain of any number of agents that is faster than
the rate for long is found, whatever the messages say, and a chain that a person keeps going is not: the operator's
messages begin chains anew, and so do tasks that an agent hands out while it handles one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

BURST = 60
"""Links beyond the rate after which a chain is a loop."""
QUIET_SECONDS = 120.0
"""A loop has ended when nothing was sent in it for so long."""
LONGEST_DELAY = 300.0
"""Seconds that the messages of a loop may wait for their delivery; more messages are refused."""
_TOLD_SECONDS = 600.0
_SHOWN_LINKS = 16
_LINK_SECONDS = 600.0
_MOST_LINKS = 20_000


class Chain(NamedTuple):
    """A message as a link of a chain: its pressure `at` a time, the number of links, and the senders of the last."""

    pressure: float
    at: float
    began: float
    links: int
    senders: tuple[str, ...]


@dataclass
class Loop:
    """Agents that answer each other. Its next message is delivered at `next_at` at the earliest."""

    members: frozenset[str]
    next_at: float
    links: int = 0
    seconds: float = 0.0


@dataclass
class _Member:
    """The messages that an agent handles at present and handled last, as links; None is not a link of any chain."""

    held: dict[int, Chain | None] = field(default_factory=dict)
    last: Chain | None = None
    reminded: Chain | None = None


class LoopDetector:
    """Follows chains of messages, finds loops, and says how long the messages of a loop have to wait.

    All times are in seconds of one clock that never goes back.
    """

    def __init__(self, per_minute: int) -> None:
        """`per_minute` is the rate of a chain that is no loop, and the rate to which loops are slowed."""
        self.loops: list[Loop] = []
        self._rate = per_minute / 60
        self._members: dict[str, _Member] = {}
        self._links: dict[int, Chain] = {}
        self._told: dict[frozenset[str], float] = {}

    def delay(self, sender: str, recipients: Iterable[str], now: float) -> float:
        """Return for how long a message of the agent `sender` would have to wait for its delivery."""
        self._end_quiet_loops(now)
        if not self.loops or self._cause(sender, now) is None:
            return 0.0
        found = [loop.next_at - now for name in recipients if (loop := self._loop_of(sender, name)) is not None]
        return max(found, default=0.0)

    def sent(
        self, number: int, sender: str, recipients: Sequence[str], now: float
    ) -> tuple[Mapping[str, float], Loop | None]:
        """Record a message of the agent `sender` to agents.

        Returns how many seconds its delivery has to wait, by recipient, and the loop if this message shows a new one.
        """
        cause = self._cause(sender, now)
        if all(name == sender for name in recipients):
            member = self._member(sender)
            cause = _stronger(cause, member.reminded, self._rate, now)
            if cause is not None:
                self._add_link(number, cause, now)
            return {}, None
        if cause is None:
            self._add_link(number, Chain(1.0, now, now, 1, (sender,)), now)
            return {}, None
        senders = (*cause.senders, sender)[-_SHOWN_LINKS:]
        pressure = _pressure(cause, self._rate, now) + 1
        chain = Chain(pressure, now, cause.began, cause.links + 1, senders)
        self._add_link(number, chain, now)
        opened = self._find_loop(chain, now) if pressure >= BURST else None
        if not self.loops:
            return {}, None
        delays: dict[str, float] = {}
        for name in recipients:
            loop = self._loop_of(sender, name)
            if loop is not None:
                loop.next_at = max(now, loop.next_at)
                delays[name] = loop.next_at - now
                loop.next_at += 1 / self._rate
        return delays, opened

    def set_reminder(self, name: str, now: float) -> None:
        """Record that an agent sets a reminder, so that a chain may go on through it."""
        member = self._member(name)
        member.reminded = _stronger(self._cause(name, now), member.reminded, self._rate, now)

    def handed_out(self, name: str, ids: Iterable[int]) -> None:
        """Record that messages were leased to an agent, which handles them now."""
        held = self._member(name).held
        for number in ids:
            held[number] = self._links.get(number)

    def acknowledged(self, name: str, ids: Iterable[int], now: float) -> None:
        """Record that an agent has handled messages."""
        member = self._member(name)
        last: Chain | None = None
        for number in ids:
            last = _stronger(member.held.pop(number, None), last, self._rate, now)
        member.last = last

    def released(self, name: str, ids: Iterable[int]) -> None:
        """Record that an agent handles messages no longer."""
        held = self._member(name).held
        for number in ids:
            held.pop(number, None)

    def restarted(self, name: str) -> None:
        """Record that an agent handles nothing, because it has a new harness."""
        self._member(name).held.clear()

    def forget(self, name: str) -> None:
        """Discard what is known of an agent that was purged."""
        self._members.pop(name, None)
        self.loops = [loop for loop in self.loops if name not in loop.members]

    def reopen(self, sender: str, recipient: str, next_at: float) -> None:
        """Open the loop of a message that still waits after a restart of the daemon."""
        loop = self._join(frozenset((sender, recipient)), next_at)
        loop.next_at = max(loop.next_at, next_at)
        self._told[loop.members] = next_at

    # ----------------------------------------------------------------------------------------------------------

    def _cause(self, sender: str, now: float) -> Chain | None:
        """Return the strongest chain among the messages that an agent handles; else that of those it handled last."""
        member = self._members.get(sender)
        if member is None:
            return None
        if not member.held:
            return member.last
        strongest: Chain | None = None
        for chain in member.held.values():
            strongest = _stronger(chain, strongest, self._rate, now)
        return strongest

    def _find_loop(self, chain: Chain, now: float) -> Loop | None:
        """Return the loop that a chain shows if nobody was told of it yet."""
        members = frozenset(chain.senders)
        if len(members) < 2 or any(members <= loop.members for loop in self.loops):
            return None
        loop = self._join(members, now + 1 / self._rate)
        loop.links, loop.seconds = chain.links, now - chain.began
        self._told = {known: at for known, at in self._told.items() if now - at < _TOLD_SECONDS}
        if any(loop.members <= known for known in self._told):
            return None
        self._told[loop.members] = now
        return loop

    def _join(self, members: frozenset[str], next_at: float) -> Loop:
        """Return one loop of these members, made of the loops that share two of them."""
        near = [loop for loop in self.loops if len(loop.members & members) > 1]
        joined = Loop(members.union(*(loop.members for loop in near)), max([next_at, *(one.next_at for one in near)]))
        self.loops = [*(loop for loop in self.loops if loop not in near), joined]
        return joined

    def _loop_of(self, sender: str, recipient: str) -> Loop | None:
        if sender == recipient:
            return None
        pair = {sender, recipient}
        return next((loop for loop in self.loops if pair <= loop.members), None)

    def _end_quiet_loops(self, now: float) -> None:
        if self.loops:
            self.loops = [loop for loop in self.loops if now - loop.next_at <= QUIET_SECONDS]

    def _member(self, name: str) -> _Member:
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = _Member()
        return member

    def _add_link(self, number: int, chain: Chain, now: float) -> None:
        self._links[number] = chain._replace(pressure=_pressure(chain, self._rate, now), at=now)
        while self._links:
            oldest = next(iter(self._links))
            if len(self._links) <= _MOST_LINKS and now - self._links[oldest].at < _LINK_SECONDS:
                return
            del self._links[oldest]


def _pressure(chain: Chain, rate: float, now: float) -> float:
    return max(0.0, chain.pressure - (now - chain.at) * rate)


def _stronger(one: Chain | None, other: Chain | None, rate: float, now: float) -> Chain | None:
    if one is None or other is None:
        return one or other
    return one if _pressure(one, rate, now) >= _pressure(other, rate, now) else other
