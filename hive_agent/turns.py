"""One turn: the backend works, the leases are kept alive beside it, and the clock runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from hive_agent import log as harness_log
from hive_agent.backends.base import Backend, Failed, Turn, TurnOutcome
from hive_agent.client import CoreClient, CoreError
from hive_core.protocol import LeaseRequest

log = logging.getLogger(__name__)


async def run_turn(backend: Backend, turn: Turn, keep_leases: Coroutine[Any, Any, None], limit: float) -> TurnOutcome:
    """Run `turn` for at most `limit` seconds while `keep_leases` runs; both have stopped when this returns.

    Raises what `keep_leases` raises (it ends only on a reason to stop the turn). What the backend raises is a
    failed turn, but a CoreError, which is for the harness to judge.
    """
    work = asyncio.create_task(backend.run(turn))
    leases = asyncio.create_task(keep_leases)
    try:
        done, _ = await asyncio.wait({work, leases}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if work in done:
            return work.result()
        if leases in done:
            leases.result()
        return Failed("timeout", f"the turn was stopped after {limit:g} s (turn_timeout)")
    except CoreError:
        raise
    except Exception as error:
        log.error("the backend broke: %s", harness_log.where(error))
        return Failed("internal", f"the backend broke: {harness_log.where(error)}")
    finally:
        work.cancel()
        leases.cancel()
        await asyncio.gather(work, leases, return_exceptions=True)


async def keep_leases(client: CoreClient, instance: str, lease_seconds: Callable[[], float]) -> None:
    """Renew all of this instance's leases three times per lease. Ends only by raising `superseded`."""
    while True:
        await asyncio.sleep(lease_seconds() / 3)
        try:
            await client.renew(LeaseRequest(instance=instance))
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.warning("leases were not renewed: %s", error)
