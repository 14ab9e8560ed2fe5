"""Work that must not be left half done because whoever asked for it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger(__name__)


async def shield_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. A caller that is cancelled waits for its end first; how it failed then is logged."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("failed after its caller was cancelled", exc_info=error)
        raise
