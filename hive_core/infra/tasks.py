"""Coroutines that run to completion even if their caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger(__name__)


async def shield_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its result. A cancelled caller waits for its end first; its failure is logged then."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("failed after its caller was cancelled", exc_info=error)
        raise
