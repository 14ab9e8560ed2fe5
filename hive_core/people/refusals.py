"""Refused attempts to sign in, in the audit table, limited so that nobody can fill the disk with them."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database

log = structlog.get_logger(__name__)

VISITOR = "visitor"
"""The actor of requests that nobody has signed in for."""
_WINDOW = 60_000
_PER_WINDOW = 30


class RefusedSignIns:
    """Audits at most 30 refusals a minute, and afterwards the number of the others.

    A name is audited only if there is such an account: people type passwords into the field for the name.
    """

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._started = 0
        self._written = 0
        self._left_out = 0

    async def record(self, action: str, name: str, address: str, code: str) -> None:
        """Audit a refusal; returns when it is on disk or could not be stored."""
        await self.report_left_out()
        if self._written == _PER_WINDOW:
            self._left_out += 1
            return
        if not self._written:
            self._started = self._clock()
        self._written += 1
        log.warning("sign-in refused", action=action, person=name, address=address, code=code)
        await self._write(action, name, code, {"address": address})

    async def report_left_out(self, *, now_at_once: bool = False) -> None:
        """Audit how many refusals were left out in a minute that has ended, or ends now."""
        if not now_at_once and self._clock() - self._started < _WINDOW:
            return
        left_out, self._left_out, self._written = self._left_out, 0, 0
        if left_out:
            log.warning("refused sign-ins left out", count=left_out)
            await self._write("sign_in", "", "left_out", {"left_out": left_out})

    async def _write(self, action: str, subject: str, outcome: str, detail: dict[str, object]) -> None:
        try:
            await self._database.write(
                lambda db: audit.append(
                    db, actor=VISITOR, action=action, subject=subject, outcome=outcome, detail=detail
                )
            )
        except HiveError as unwritten:  # A full disk, or a daemon that stops: the visitor must get an answer anyway.
            log.error("refused sign-in not audited", code=unwritten.code)
