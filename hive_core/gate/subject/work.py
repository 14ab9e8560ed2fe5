"""The work on any subject of proposals, an agent or a repository: locks, requests, and work in the background."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from hive_core.errors import HiveError
from hive_core.gate.records.states import State
from hive_core.gate.subject.background import BackgroundWork, Step, cancel_all, is_temporary
from hive_core.gate.subject.tag_log import TagLog
from hive_core.infra.concurrency.tasks import log_failure
from hive_core.infra.concurrency.threads import GATE, Threads
from hive_core.infra.git.repository import Repository
from hive_core.infra.storage.disk_space import disk_full, is_lack_of_space

WHOLE_SUBJECT = -1
"""The number for background work that is about no single proposal."""

P = ParamSpec("P")
T = TypeVar("T")


class SubjectLock(asyncio.Lock):
    """The lock of one subject's tags. Waiters are refused while the index tells otherwise than the tags."""

    held_back = False
    """True until the index could be written, for which there was no space."""

    async def __aenter__(self) -> None:
        await self.acquire()
        if self.held_back:
            self.release()
            raise disk_full("write down what was done last")


class SubjectLocks:
    """The locks of all subjects, which are created when they are first needed."""

    def __init__(self) -> None:
        self._locks: dict[str, SubjectLock] = {}

    def __getitem__(self, subject: str) -> SubjectLock:
        return self._locks.setdefault(subject, SubjectLock())


class SubjectWork(ABC):
    """The shared state of requests and background work on proposals.

    A part changes a subject's tags only under its lock.
    """

    def __init__(self, log: TagLog[Any, Any], background: BackgroundWork) -> None:
        self.background = background
        self.locks = SubjectLocks()
        self.recovered = asyncio.Event()
        """Set when the proposals that an earlier daemon left have been recovered, and by `close`."""
        self._log = log
        self._requests: set[asyncio.Task[Any]] = set()
        self._closed = False

    @abstractmethod
    def repository(self, subject: str) -> Path:
        """Return the repository that holds the tags of a subject."""

    async def in_repository(self, subject: str, work: Callable[[Repository], T], threads: Threads = GATE) -> T:
        """Call `work` with the repository of a subject's tags, in one of `threads`."""

        def run() -> T:
            with Repository.open(self.repository(subject)) as repository:
                return work(repository)

        return await threads.run(run)

    async def end(self, subject: str, number: int, step: Step) -> None:
        """Run the last step of a request's work, or leave it to the background if it fails for a while only.

        The caller must hold the subject's lock, with which `step` is called. In the background the step must look again
        at what there is.
        """
        try:
            await step()
        except Exception as error:
            if not is_temporary(error):
                raise
            self.background.start(subject, number, self.locked(subject, step))

    def hold_back(self, subject: str, recover: Step) -> None:
        """Refuse requests about a subject whose index is behind its tags, until `recover` has succeeded."""
        lock = self.locks[subject]
        lock.held_back = True

        async def run() -> None:
            await lock.acquire()
            try:
                if self.repository(subject).exists():  # It was not purged meanwhile.
                    await recover()
                lock.held_back = False
            finally:
                lock.release()

        self.background.start(subject, WHOLE_SUBJECT, run)

    def locked(self, subject: str, step: Step) -> Step:
        """Return a step that holds the subject's lock."""

        async def run() -> None:
            async with self.locks[subject]:
                await step()

        return run

    async def ready(self) -> None:
        """Wait until recovery is done. Raises `stopping` after `close`."""
        await self.recovered.wait()
        if self._closed:
            raise _stopping()

    async def run_request(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to completion even if the caller is cancelled. Raises `stopping` if `close` ends it."""
        task = asyncio.create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.add_done_callback(log_failure)
            raise
        if task.cancelled():
            raise _stopping()
        try:
            return task.result()
        except OSError as error:
            if is_lack_of_space(error):
                raise disk_full("carry the request out") from error
            raise

    async def wait_for_state(self, unlike: str | None, seconds: float, read: Callable[[], Awaitable[State]]) -> None:
        """Wait until `read` returns another state of a proposal than `unlike`: `seconds` at most, or until `close`."""
        changed, deadline = self._log.changed, asyncio.get_running_loop().time() + seconds
        async with changed:
            while not self._closed and (await read()).value == unlike:
                try:
                    async with asyncio.timeout_at(deadline):
                        await changed.wait()
                except TimeoutError:
                    break

    async def notify_waiters(self) -> None:
        """Wake everyone who waits for a proposal to change."""
        await self._log.notify_waiters()

    async def close(self) -> None:
        """Cancel all requests and background work. The next daemon recovers the proposals that are open then."""
        self._closed = True
        self.recovered.set()
        self._log.stop()
        await asyncio.gather(cancel_all(self._requests), self.background.close())
        await self._log.notify_waiters()

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed


def _stopping() -> HiveError:
    return HiveError("stopping", "the hive is stopping", hint="start it again first", status=503)


class _Part(Protocol):
    @property
    def _context(self) -> SubjectWork: ...


S = TypeVar("S", bound=_Part)


def as_request(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Let a method wait until recovery is done, then run it by `SubjectWork.run_request`."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self._context.ready()
        return await self._context.run_request(method(self, *args, **kwargs))

    return run
