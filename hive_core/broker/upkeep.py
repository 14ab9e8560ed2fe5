"""Removing what is old, now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from hive_core.errors import HiveError
from hive_core.infra.database.writer import PASSING

log = structlog.get_logger(__name__)

_SECONDS = 3_600.0
_RETRY_SECONDS = 60.0


async def keep_vacuumed(vacuum: Callable[[float], Awaitable[int]], retention_days: float) -> None:
    """Call `vacuum`, which says how much it has removed, at once and every hour, without end.

    On a full disk it is put off: that is no reason to stop a daemon.
    """
    while True:
        started = time.monotonic()
        try:
            removed = await vacuum(retention_days)
        except HiveError as error:
            if error.code not in PASSING:
                raise
            log.warning("vacuum put off", code=error.code, seconds=_RETRY_SECONDS)
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        if removed:
            log.info("vacuumed", rows=removed, seconds=round(time.monotonic() - started, 3))
        await asyncio.sleep(_SECONDS)
