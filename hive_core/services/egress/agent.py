"""One agent at the proxy: its policy, its counters and its open connections."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from hive_core.protocol.network.packets import TrafficPacket
from hive_core.protocol.network.policy import EgressPolicy, since_boot
from hive_core.services.egress.checks.decision import Decider

if TYPE_CHECKING:
    from hive_core.services.egress.traffic.base_connection import EgressConnection

_LOOKUPS = 4
"""Look-ups of names for one agent at a time: slow names of one agent delay no other."""
_DAY_MILLISECONDS = 86_400_000
_BURST_SECONDS = 2.0
"""The allowance of an agent that has opened no connections lately, in seconds of its rate."""
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 60.0, 3_600.0


class EgressAgent:
    """An agent as the proxy knows it."""

    def __init__(self, name: str, policy: EgressPolicy) -> None:
        self.name = name
        self.policy = policy
        self.decider = Decider(policy)
        self.connections: set[EgressConnection] = set()
        self.lookups = asyncio.Semaphore(_LOOKUPS)
        self.accepted = 0
        self.sent_total = 0
        self.received_total = 0
        self.rests_until = 0.0
        """The time of the event loop until which nothing is accepted from the agent."""
        self._rest_seconds = _FIRST_REST_SECONDS
        self._allowance = 0.0
        self._counted = -math.inf
        self._sent = 0
        self._received = 0
        self._reported: tuple[int, int, int] = (0, 0, 0)
        self._advance = 0
        """The largest difference seen between the host's clock and the time since its boot, in milliseconds."""
        self._day = 0
        self._today = 0

    def rest(self, now: float) -> None:
        """Accept nothing for a time: the agent has made an accept block, for which all others had to wait."""
        self.rests_until = now + self._rest_seconds
        self._rest_seconds = min(2 * self._rest_seconds, _LONGEST_REST_SECONDS)

    def allowance(self, now: float) -> float:
        """Return how many connections may be accepted at this time of the event loop, on all listeners together."""
        rate = self.decider.limits.connections_per_second
        self._allowance = min(rate * _BURST_SECONDS, self._allowance + (now - self._counted) * rate)
        self._counted = now
        return self._allowance

    def seconds_to_next(self, now: float) -> float:
        """Return the time until the agent's rate allows another connection; 0 if it does now."""
        return max(0.0, 1 - self.allowance(now)) / self.decider.limits.connections_per_second

    def count_accepted(self) -> None:
        """Count a connection that was accepted."""
        self._allowance -= 1
        self.accepted += 1

    def set_policy(self, policy: EgressPolicy, bytes_today: int) -> None:
        """Decide by another policy from now on. The larger count of the day's bytes holds."""
        if policy != self.policy:
            self.policy = policy
            self.decider = Decider(policy)
            self._end_those_not_allowed(also_lasting=False)
        self._turn_day()
        self._today = max(self._today, bytes_today)

    def count_sent(self, count: int) -> None:
        """Count bytes of the agent."""
        self._sent += count

    def count_received(self, count: int) -> None:
        """Count bytes for the agent."""
        self._received += count

    def is_over_bytes(self) -> bool:
        """Return True if the agent has used up its bytes of the day (UTC)."""
        limit = self.decider.limits.bytes_per_day
        return limit is not None and self.bytes_today() >= limit

    def bytes_today(self) -> int:
        """Return the bytes that were sent and received on this day (UTC)."""
        self._turn_day()
        return self._today

    def is_full(self) -> bool:
        """Return True if the agent has more connections than it may have."""
        return len(self.connections) > self.decider.limits.connections

    def end_connections(self) -> None:
        """End those connections that the policy does not allow any more."""
        self._end_those_not_allowed(also_lasting=True)

    def close(self) -> None:
        """End all connections."""
        for connection in list(self.connections):
            connection.abort()

    def take_traffic(self) -> TrafficPacket | None:
        """Return what has changed since the last call, None if nothing has."""
        self._turn_day()
        now = (len(self.connections), self.sent_total, self.received_total)
        if now == self._reported:
            return None
        packet = TrafficPacket(
            agent=self.name,
            connections=now[0],
            sent=now[1] - self._reported[1],
            received=now[2] - self._reported[2],
        )
        self._reported = now
        return packet

    def _end_those_not_allowed(self, *, also_lasting: bool) -> None:
        for connection in list(self.connections):
            if (also_lasting or connection.ends_with_policy) and not connection.is_allowed():
                connection.abort()

    def _turn_day(self) -> None:
        """Add what was counted to the totals, and begin a new day if one has begun.

        A clock of the host that is set back over midnight begins none: it would give the day's bytes anew.
        """
        boot = since_boot()
        self._advance = max(self._advance, int(time.time() * 1_000) - boot)
        day = (boot + self._advance) // _DAY_MILLISECONDS
        if day != self._day:
            self._day, self._today = day, 0
        self._today += self._sent + self._received
        self.sent_total += self._sent
        self.received_total += self._received
        self._sent = self._received = 0
