"""Refused requests in the audit table, limited so that no caller can fill the disk with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hive_core.api.endpoint import Caller
from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database

log = structlog.get_logger(__name__)

_SECONDS = 60.0
_PER_MINUTE = 30
_CALLERS = 1_000
_HARMLESS = frozenset({"superseded", "stopping", "wrong_password", "too_many_sign_ins", "bad_link"})
"""Refusals that are harmless, or audited elsewhere: those of sign-ins with the account (`hive_core.people`)."""


@dataclass
class _Window:
    started: float
    written: int = 0
    left_out: int = 0


class RefusalAudit:
    """Audits at most 30 refusals of a caller per minute, and after the minute the number of the others.

    It keeps minutes of at most 1,000 callers: for one more, the oldest minute ends early.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    async def record_refusal(self, caller: Caller, request: str, error: HiveError) -> None:
        """Audit a refusal; returns when it is on disk or could not be stored."""
        if error.code in _HARMLESS or error.status >= 500:
            return
        window = await self._window(caller.actor)
        if window.written == _PER_MINUTE:
            window.left_out += 1
            return
        window.written += 1
        log.warning("request refused", actor=caller.actor, request=request[:200], code=error.code)
        await self._write(caller.actor, request[:200], error.code)

    async def run(self) -> None:
        """Audit the numbers of refusals left out once a minute, until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            await self.report_left_out()

    async def report_left_out(self, *, all_callers: bool = False) -> None:
        """Audit how many refusals were left out in past minutes; with `all_callers` also in the current one."""
        now = self._clock()
        for actor, window in list(self._windows.items()):
            if all_callers or now - window.started >= _SECONDS:
                await self._close(actor, window)

    async def _window(self, actor: str) -> _Window:
        window = self._windows.get(actor)
        if window is not None and self._clock() - window.started >= _SECONDS:
            await self._close(actor, window)
        while actor not in self._windows and len(self._windows) >= _CALLERS:
            await self._close(*next(iter(self._windows.items())))
        return self._windows.setdefault(actor, _Window(self._clock()))

    async def _close(self, actor: str, window: _Window) -> None:
        # Removed first: refusals during the write count in a new minute.
        if self._windows.get(actor) is window:
            del self._windows[actor]
        left_out, window.left_out = window.left_out, 0
        if left_out:
            log.warning("refusals left out", actor=actor, count=left_out)
            await self._write(actor, "", "left_out", left_out)

    async def _write(self, actor: str, subject: str, outcome: str, left_out: int = 0) -> None:
        detail = {"left_out": left_out} if left_out else {}
        try:
            await self._database.write(
                lambda db: audit.append(
                    db, actor=actor, action="request", subject=subject, outcome=outcome, detail=detail
                )
            )
        except HiveError as unwritten:
            # A full disk, or a daemon that stops: the caller must get its own error anyway.
            log.error("refusal not audited", actor=actor, code=unwritten.code)
