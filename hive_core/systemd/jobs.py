"""Waiting for systemd's jobs: starting or stopping a unit is one, and it is over when JobRemoved says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Job:
    """A job that somebody waits for. `result` is systemd's word: "done", "failed", "timeout", "canceled", …

    It is empty if the job ended while nobody could hear of it.
    """

    def __init__(self) -> None:
        self.path = ""
        self.result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def named(self, answer: Sequence[str]) -> None:
        """systemd has made the job, and called it so."""
        (self.path,) = answer

    def end(self, result: str) -> None:
        if not self.result.done():
            self.result.set_result(result)


class Jobs:
    """All jobs that somebody waits for."""

    def __init__(self) -> None:
        self._jobs: set[Job] = set()

    @contextmanager
    def awaited(self) -> Iterator[Job]:
        """A job that is to be made: what `named` is told before any later signal is heard."""
        job = Job()
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)

    def removed(self, path: str, result: str) -> None:
        """A job, anybody's, is over."""
        for job in self._jobs:
            if job.path == path:
                job.end(result)

    def close(self, error: Exception) -> None:
        """Nobody will hear of jobs any more: those who wait get `error`."""
        for job in self._jobs:
            if not job.result.done():
                job.result.set_exception(error)

    def paths(self) -> list[str]:
        """The jobs that have been made and are not over, as far as was heard."""
        return [job.path for job in self._jobs if job.path and not job.result.done()]
