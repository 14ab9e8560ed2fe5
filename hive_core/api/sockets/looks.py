"""Audit of admins who look at what belongs to the agents of others: they may, and it is told."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from hive_core.api.endpoint import Caller
from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database

_log = structlog.get_logger(__name__)
_SECONDS = 3_600.0
_MOST = 10_000


class LookAudit:
    """Audits that a person looks at an agent of somebody else's: once an hour, however often they do."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    async def record(self, caller: Caller, agent: str) -> None:
        """Audit the look, unless one of this hour is; returns when it is on disk or could not be stored."""
        now, key = self._clock(), (caller.name, agent)
        if now - self._told.get(key, -_SECONDS) < _SECONDS:
            return
        self._told.pop(key, None)
        while len(self._told) >= _MOST:
            del self._told[next(iter(self._told))]
        self._told[key] = now
        actor = caller.actor
        try:
            await self._database.write(lambda db: audit.append(db, actor=actor, action="look", subject=agent))
        except HiveError as unwritten:
            # A full disk: the admin has to be able to see what fills it.
            self._told.pop(key, None)
            _log.error("look not audited", actor=actor, agent=agent, code=unwritten.code)
