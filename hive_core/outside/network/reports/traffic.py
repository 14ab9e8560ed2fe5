"""Traffic of agents through the proxy: connections now, and bytes by days (UTC)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hive_core.outside.network.reports import store
from hive_core.protocol.network.access import AgentTraffic
from hive_core.protocol.network.packets import TrafficPacket

_DAY = 86_400_000


@dataclass
class _Counts:
    """Bytes of an agent on one day; the last two are not stored yet."""

    day: int
    sent: int = 0
    received: int = 0
    new_sent: int = 0
    new_received: int = 0


class TrafficCounts:
    """Counts what the proxy reports. Bytes of the last seconds are lost if the daemon is killed."""

    def __init__(self) -> None:
        self._connections: dict[str, int] = {}
        self._counts: dict[str, _Counts] = {}

    def load(self, db: sqlite3.Connection, now: int) -> None:
        """Read the counts of the present day."""
        day = now // _DAY
        for agent, (sent, received) in store.traffic_of_day(db, day).items():
            self._counts[agent] = _Counts(day, sent, received)

    def add(self, packet: TrafficPacket, now: int) -> None:
        """Count what the proxy reports of an agent."""
        self._connections[packet.agent] = max(0, packet.connections)
        counts = self._of(packet.agent, now)
        sent, received = max(0, packet.sent), max(0, packet.received)
        counts.sent, counts.new_sent = counts.sent + sent, counts.new_sent + sent
        counts.received, counts.new_received = counts.received + received, counts.new_received + received

    def of(self, agent: str, now: int) -> AgentTraffic:
        """Return the traffic of an agent."""
        counts = self._counts.get(agent)
        if counts is None or counts.day != now // _DAY:
            return AgentTraffic(connections=self._connections.get(agent, 0))
        return AgentTraffic(
            connections=self._connections.get(agent, 0), sent_today=counts.sent, received_today=counts.received
        )

    def disconnected(self) -> None:
        """Forget the connections: the proxy has ended."""
        self._connections.clear()

    def forget(self, agent: str) -> None:
        """Forget an agent that is gone."""
        self._connections.pop(agent, None)
        self._counts.pop(agent, None)

    def take_new(self) -> list[tuple[str, int, int, int]]:
        """Return what is not stored yet as agent, day, bytes sent and received; it counts as stored then."""
        new = []
        for agent, counts in self._counts.items():
            if counts.new_sent or counts.new_received:
                new.append((agent, counts.day, counts.new_sent, counts.new_received))
                counts.new_sent = counts.new_received = 0
        return new

    def _of(self, agent: str, now: int) -> _Counts:
        counts, day = self._counts.get(agent), now // _DAY
        if counts is None or counts.day != day:
            # The end of the day before is counted for the new one: the proxy reports every second.
            rest = (counts.new_sent, counts.new_received) if counts is not None else (0, 0)
            counts = self._counts[agent] = _Counts(day, *rest, *rest)
        return counts
