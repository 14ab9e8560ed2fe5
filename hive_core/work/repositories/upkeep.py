"""Work on mirrors by the clock: fetches, and packing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import UPKEEP
from hive_core.infra.git.command import failure, run
from hive_core.infra.storage.file_lock import shared_repository_lock
from hive_core.work.repositories.registry import Repositories

_log = structlog.get_logger(__name__)
_LOOK_SECONDS = 15.0
_PACKS = 40
_PACKING_SECONDS = 3_600.0
_TIDY_MINUTES = 30.0


async def fetch_regularly(repositories: Repositories, minutes: float) -> None:
    """Fetch every repository that has a URL `minutes` after its last fetch or attempt, until cancelled; 0: never.

    None waits for another one here: an upstream that is slow would delay all others.
    """
    attempts: dict[str, float] = {}
    under_way: dict[str, asyncio.Task[None]] = {}
    try:
        while minutes:
            now = time.time()
            under_way = {name: task for name, task in under_way.items() if not task.done()}
            for record in repositories.records():
                last = max((record.fetched_at or 0) / 1000, attempts.get(record.name, 0.0))
                # A repository that was just added is fetched by whoever adds it.
                if not record.source or now - max(last, record.created_at / 1000) < minutes * 60:
                    continue
                if record.name not in under_way:
                    attempts[record.name] = now
                    under_way[record.name] = asyncio.create_task(_fetch(repositories, record.name))
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        for task in under_way.values():
            task.cancel()
        if under_way:
            await asyncio.wait(under_way.values())


async def _fetch(repositories: Repositories, name: str) -> None:
    """Fetch a repository; when it is removed meanwhile, the task ends as cancelled."""
    try:
        await repositories.fetch(name)
    except HiveError as error:
        _log.info("fetch failed", repository=name, code=error.code)
    except Exception as error:  # A full disk, or a mirror that is gone: the daemon and the others go on.
        _log.error("fetch failed", repository=name, exc_info=error)


async def tidy_mirrors(repositories: Repositories) -> None:
    """Pack mirrors that have many packs, until cancelled: each fetch adds one."""
    while True:
        for record in repositories.records():
            try:
                await UPKEEP.run(tidy_mirror, repositories.mirror(record.name))
            except HiveError as error:
                _log.warning("a mirror was not packed", repository=record.name, code=error.code, error=error.message)
            except Exception as error:  # The repository was removed meanwhile, or whatever its disk has.
                _log.error("a mirror was not packed", repository=record.name, exc_info=error)
        await asyncio.sleep(_TIDY_MINUTES * 60)


def tidy_mirror(mirror: Path) -> bool:
    """Combine the small packs of a mirror if there are many; return True if any were.

    Every object stays, also those that nothing refers to: clones may borrow them. Readers go on meanwhile. Raises
    HiveError `git_failed`, `git_slow`, `disk_full`.
    """
    if sum(1 for _ in (mirror / "objects/pack").glob("*.pack")) <= _PACKS:
        return False
    arguments = ("-c", "pack.threads=1", "repack", "--geometric=2", "-d", "-q")
    with shared_repository_lock(mirror) as lock:
        result = run(mirror, *arguments, seconds=_PACKING_SECONDS, keep=[lock])
    if result.status:
        raise failure(arguments, result.status, result.errors, writes=mirror)
    return True
