"""Removing old messages, now and then."""

from __future__ import annotations

import asyncio
import time

import structlog

from hive_core.broker.broker import Broker
from hive_core.database import PASSING
from hive_core.errors import HiveError

log = structlog.get_logger(__name__)

_SECONDS = 3_600.0
_RETRY_SECONDS = 60.0


async def keep_vacuumed(broker: Broker, retention_days: float) -> None:
    """Vacuum at once and every hour, without end. On a full disk it is put off: that is no reason to stop a daemon."""
    while True:
        started = time.monotonic()
        try:
            removed = await broker.vacuum(retention_days)
        except HiveError as error:
            if error.code not in PASSING:
                raise
            log.warning("vacuum put off", code=error.code, seconds=_RETRY_SECONDS)
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        if removed:
            log.info("vacuumed messages", deliveries=removed, seconds=round(time.monotonic() - started, 3))
        await asyncio.sleep(_SECONDS)
