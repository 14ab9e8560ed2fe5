"""Refusals that the proxy reports: kept, and told once where an agent tries the same host again and again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

import structlog

from hive_core.errors import HiveError
from hive_core.infra.database.database import TEMPORARY_ERRORS, Database
from hive_core.messaging import Broker
from hive_core.outside.network import texts
from hive_core.outside.network.reports import store
from hive_core.outside.network.reports.store import RefusalRow
from hive_core.outside.network.requests import HostDecider
from hive_core.protocol.names import MANAGER, OPERATOR
from hive_core.protocol.network.packets import RefusedPacket

log = structlog.get_logger(__name__)

OFTEN = 10
"""Refusals of a host from which on they are told."""
QUIET_SECONDS = 600.0
"""Time after a message about an agent's refusals until the next one: an agent chooses the hosts that it asks for."""
_TOLD_AT_ONCE = 20
_MOST_WAITING = 1_000
"""Different refusals that wait to be stored; further ones are only counted, under no host."""
_HOST, _TEXT = 253, 300
_TOLD = ("no_rule", "port", "refused_address", "not_tls", "server_name", "encrypted_hello")
"""Reasons about which somebody may want to do something."""

_Key = tuple[str, str, int, str]


class RefusalRecords:
    """Collects refusals, and stores those of a second together: an agent can cause any number of them."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        decider_of: Callable[[str], HostDecider],
        clock: Callable[[], int],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives the time in milliseconds, and `ticks` in seconds from any moment.

        `decider_of` returns who hears of an agent's refusals.
        """
        self._database = database
        self._broker = broker
        self._decider_of = decider_of
        self._clock = clock
        self._ticks = ticks
        self._waiting: dict[_Key, RefusalRow] = {}
        self._last_told: dict[str, float] = {}

    def add(self, packet: RefusedPacket) -> None:
        """Count refusals, which `store` stores."""
        now = self._clock()
        row = RefusalRow(
            packet.agent,
            packet.host[:_HOST],
            packet.port,
            packet.reason,
            packet.missing[:_TEXT],
            packet.detail[:_TEXT],
            packet.count,
            now,
            now,
        )
        if _key(row) not in self._waiting and len(self._waiting) >= _MOST_WAITING:
            row = row._replace(host="", port=0, missing="", detail="")
        earlier = self._waiting.get(_key(row))
        if earlier is not None:
            row = row._replace(times=row.times + earlier.times, first_at=earlier.first_at)
        self._waiting[_key(row)] = row

    async def store(self) -> dict[str, RefusalRow]:
        """Store what has come since the last time, and tell what was refused often.

        Returns for each agent of it what was refused most, with the number of all its refusals.
        """
        rows, self._waiting = list(self._waiting.values()), {}
        agents: dict[str, RefusalRow] = {}
        for row in sorted(rows, key=lambda row: row.times):
            before = agents.get(row.agent)
            agents[row.agent] = row._replace(times=row.times + (before.times if before is not None else 0))
        loud = [agent for agent in sorted(agents) if not self._is_quiet(agent)]

        def write(db: sqlite3.Connection) -> dict[str, list[RefusalRow]]:
            for row in rows:
                store.add_refusals(db, row)
            return {agent: store.untold_refusals(db, agent, OFTEN, _TOLD, _TOLD_AT_ONCE) for agent in loud}

        try:
            untold = await self._database.write(write)
            for agent, found in untold.items():
                if found:
                    await self._tell(agent, found)
        except HiveError as error:
            if error.code not in TEMPORARY_ERRORS:
                raise
            log.warning("refusals of the network not stored", agents=sorted(agents), code=error.code)
        return agents

    def forget(self, agent: str) -> None:
        """Forget an agent that is gone."""
        self._waiting = {key: row for key, row in self._waiting.items() if row.agent != agent}
        self._last_told.pop(agent, None)

    def _is_quiet(self, agent: str) -> bool:
        last = self._last_told.get(agent)
        return last is not None and self._ticks() - last < QUIET_SECONDS

    async def _tell(self, agent: str, rows: list[RefusalRow]) -> None:
        decider = self._decider_of(agent)
        to = MANAGER if decider == "manager" else OPERATOR
        self._last_told[agent] = self._ticks()
        text = texts.often_refused(agent, rows, decider)
        await self._broker.announce([(to, text)], lambda db: store.mark_told(db, rows), agent)


def _key(row: RefusalRow) -> _Key:
    return row.agent, row.host, row.port, row.reason
