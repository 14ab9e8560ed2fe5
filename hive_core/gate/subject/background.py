"""Work on proposals in the background, which is repeated until it succeeds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

import structlog

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import log_failure
from hive_core.infra.storage.disk_space import RoomWatch, is_lack_of_space

_TEMPORARY = frozenset({"disk_full", "database_busy", "repository_busy", "git_slow"})

Step = Callable[[], Coroutine[Any, Any, None]]
"""Work that may be begun again after it has failed, and then goes on from the state that it finds."""

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_LONGEST_PAUSE_OF_FAULTS = 600.0
"""Seconds between two attempts, doubled after each. The second limit is for errors that are faults of the hive."""
_ATTEMPTS_WITHOUT_SPACE = 5
"""Attempts that may lack space although there is room, as work that needs more than there will ever be does."""
_FINAL = frozenset(
    {
        "stopping",
        "storage_failed",
        "repository_missing",
        "unknown_agent",
        "unknown_proposal",
        "unknown_repository",
        "unknown_work",
    }
)
"""Errors after which nothing is to be done any more: the daemon stops, or the subject is gone."""

_log = structlog.get_logger(__name__)


def is_temporary(error: BaseException) -> bool:
    """Return True for an error that a later attempt may not have, although nothing was asked for otherwise."""
    return is_lack_of_space(error) or (isinstance(error, HiveError) and error.code in _TEMPORARY)


class BackgroundWork:
    """Runs the steps of proposals. A step that fails is repeated: at once when the disk has room again, else later."""

    def __init__(self, directory: Path, catch_up: Callable[[str], Awaitable[None]]) -> None:
        """`directory` is on the disk that is tried; `catch_up` makes the index of an agent agree with its tags."""
        self.ended = asyncio.Event()
        """Set when work on any proposal has ended."""
        self._catch_up = catch_up
        self._room = RoomWatch(directory)
        self._work: dict[asyncio.Task[None], tuple[str, int]] = {}
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._closed = False

    def start(self, agent: str, number: int, step: Step) -> None:
        """Run `step` on a proposal in the background, until it has succeeded."""
        if self._closed:
            return
        task = asyncio.create_task(self.persist(agent, number, step), name=f"proposal {agent}/{number}")
        self._work[task] = (agent, number)
        task.add_done_callback(self._done)

    def is_under_way(self, agent: str, number: int) -> bool:
        """Return True if there is work on the proposal."""
        return (agent, number) in self._work.values()

    async def persist(self, agent: str, number: int, step: Step) -> None:
        """Run `step` until it succeeds. The caller must not hold the agent's lock."""
        pause = _FIRST_PAUSE
        while not self._closed:
            try:
                await step()
            except Exception as error:
                if isinstance(error, HiveError) and error.code in _FINAL:
                    return
                self._log_failure(agent, number, error, again=pause > _FIRST_PAUSE)
                lacks_space = is_lack_of_space(error)
                longest = _LONGEST_PAUSE if is_temporary(error) else _LONGEST_PAUSE_OF_FAULTS
            else:
                return
            await asyncio.sleep(min(pause, longest))
            pause = min(2 * pause, _LONGEST_PAUSE_OF_FAULTS)
            if lacks_space:
                await self._room.wait()
            else:
                await self._catch_up_with_tags(agent)

    def may_wait_for_space(self, agent: str, number: int, error: Exception) -> bool:
        """Count an attempt that has failed. Return True if it lacked space, and another one makes sense."""
        if not is_lack_of_space(error):
            return False
        self._attempts[agent, number] += 1
        return self._attempts[agent, number] < _ATTEMPTS_WITHOUT_SPACE

    async def cancel(self, agent: str, number: int) -> None:
        """Cancel the work on a proposal and wait for its end."""
        await cancel_all([task for task, proposal in self._work.items() if proposal == (agent, number)])

    async def cancel_all_of(self, subject: str) -> None:
        """Cancel the work on all proposals of a subject that is removed, and wait for its end."""
        # What is about no single proposal ends by itself, and releases the subject's lock.
        await cancel_all([task for task, (name, number) in self._work.items() if name == subject and number >= 0])

    async def close(self) -> None:
        """Cancel all work. The next daemon goes on with it."""
        self._closed = True
        await cancel_all(self._work)
        await self._room.close()

    async def _catch_up_with_tags(self, agent: str) -> None:
        """Remove one cause of a failure before the next attempt: an index that tells otherwise than the tags."""
        try:
            await self._catch_up(agent)
        except Exception as error:
            _log.error("index not compared with the tags", agent=agent, error=str(error))

    def _log_failure(self, agent: str, number: int, error: Exception, *, again: bool) -> None:
        if isinstance(error, HiveError) or is_lack_of_space(error):
            write = _log.info if again else _log.warning
            code = error.code if isinstance(error, HiveError) else "disk_full"
            write("work on a proposal is repeated", agent=agent, number=number, code=code, error=str(error))
        else:
            _log.error("work on a proposal failed, and is repeated", agent=agent, number=number, exc_info=error)

    def _done(self, task: asyncio.Task[None]) -> None:
        agent, number = self._work.pop(task)
        if not self.is_under_way(agent, number):
            self._attempts.pop((agent, number), None)
        self.ended.set()
        log_failure(task)


async def cancel_all(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their ends."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
