"""Refused requests in the audit table: each one, but not so many that a caller could fill the disk with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hive_core import audit
from hive_core.database import Database
from hive_core.errors import HiveError
from hive_core.sockets.endpoint import Caller

log = structlog.get_logger(__name__)

_PER_MINUTE = 30
_HARMLESS = frozenset({"superseded", "stopping"})


@dataclass
class _Window:
    started: float
    written: int = 0
    left_out: int = 0


class Refusals:
    """Audits refusals: per caller at most 30 a minute, and then how many were left out."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    async def note(self, caller: Caller, request: str, error: HiveError) -> None:
        """Write down that `caller` was refused; returns when that is on disk, or cannot be."""
        if error.code in _HARMLESS or error.status >= 500:
            return
        now = self._clock()
        window = self._windows.get(caller.name)
        if window is None or now - window.started >= 60:
            left_out = window.left_out if window else 0
            window = self._windows[caller.name] = _Window(now, left_out=left_out)
        if window.written == _PER_MINUTE:
            window.left_out += 1
            return
        window.written += 1
        left_out, window.left_out = window.left_out, 0
        log.warning("request refused", actor=caller.actor, request=request[:200], code=error.code)
        detail = {"left_out_before": left_out} if left_out else {}
        try:
            await self._database.write(
                lambda db: audit.append(
                    db, actor=caller.actor, action="request", subject=request[:200], outcome=error.code, detail=detail
                )
            )
        except HiveError as unwritten:
            # A full disk, or a daemon that stops: the caller is to hear of its own mistake all the same.
            log.error("refusal not audited", actor=caller.actor, code=unwritten.code)
