"""One attempt of a turn: runs the backend, renews the leases, enforces the limits, and reports failing model calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from hive_agent.backends.base import Backend, Failed, Turn, TurnOutcome
from hive_agent.backends.transcript import Entry, EntrySink, Notice, TokenUsage, ToolCall, ToolResult, TranscriptText
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.infra import log as harness_log
from hive_core.protocol import LeaseRequest

log = logging.getLogger(__name__)

_STOP_SECONDS = 60.0
"""Time limit for a backend to stop everything that it has started."""


class StuckBackend(Exception):
    """The backend does not stop, so the harness has to exit, which ends all its processes."""


class TurnStopper:
    """Stops a running turn from outside, once, with a reason."""

    def __init__(self) -> None:
        self._reason: asyncio.Future[Failed] = asyncio.get_running_loop().create_future()

    def stop(self, reason: Failed) -> None:
        """Stop the turn; only the first reason counts."""
        if not self._reason.done():
            self._reason.set_result(reason)

    def count_calls(self, emit: EntrySink, most: int) -> EntrySink:
        """Wrap `emit` so that a turn is stopped that is about to make more than `most` model calls."""
        calls = 0

        def counted(entry: Entry) -> None:
            nonlocal calls
            emit(entry)
            calls += isinstance(entry, TokenUsage)
            # A tool's result leads to another call of the model.
            if calls > most or (calls == most and isinstance(entry, ToolResult)):
                self.stop(Failed("steps", f"the turn was stopped after {most} model calls (max_steps)"))

        return counted

    @property
    def reason(self) -> asyncio.Future[Failed]:
        return self._reason


async def run_turn(
    backend: Backend,
    turn: Turn,
    emit: EntrySink,
    keep_leases: Coroutine[Any, Any, None],
    limit: float,
    *,
    max_steps: int = 10_000,
    stopper: TurnStopper | None = None,
) -> TurnOutcome:
    """Run `turn` for at most `limit` seconds and `max_steps` model calls, as `run_guarded` does."""
    stopper = stopper or TurnStopper()
    work = backend.run(turn, stopper.count_calls(emit, max_steps))
    return await run_guarded(work, keep_leases, limit, stopper)


async def run_guarded(
    work: Coroutine[Any, Any, TurnOutcome], keep_leases: Coroutine[Any, Any, None], limit: float, stopper: TurnStopper
) -> TurnOutcome:
    """Do the backend's `work` for at most `limit` seconds while `keep_leases` runs, and stop both.

    An exception of the backend becomes a failure, except for CoreError, which is raised.

    Raises:
        CoreError: of the backend, or `superseded` of `keep_leases`.
        StuckBackend: the work does not stop.
    """
    working = asyncio.create_task(work)
    leases = asyncio.create_task(keep_leases)
    try:
        everything: set[asyncio.Future[Any]] = {working, leases, stopper.reason}
        done, _ = await asyncio.wait(everything, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if working in done:
            if working.cancelled():
                return Failed("internal", "the backend cancelled its own work")
            return working.result()
        if leases in done:
            leases.result()
        if stopper.reason in done:
            return stopper.reason.result()
        return Failed("timeout", f"the turn was stopped after {limit:g} s (turn_timeout)")
    except CoreError:
        raise
    except Exception as error:
        log.error("the backend raised an error: %s", harness_log.where(error))
        return Failed("internal", f"the backend raised an error: {harness_log.where(error)}")
    finally:
        working.cancel()
        leases.cancel()
        stopped, stuck = await asyncio.wait({working, leases}, timeout=_STOP_SECONDS)
        await asyncio.gather(*stopped, return_exceptions=True)  # retrieves exceptions of the cancelled tasks
        if stuck:
            raise StuckBackend(f"the backend does not stop within {_STOP_SECONDS:g} s")


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


class RepeatReporter:
    """Reports each failed call of the model that the agent CLI repeats by itself, and its end with the next answer.

    A CLI may repeat a call for minutes. `say` reports a detail of the state; `usual` is the detail without failures.
    """

    def __init__(self, say: Callable[[str], Awaitable[None]], usual: str) -> None:
        self._say = say
        self._usual = usual
        self._began: datetime | None = None
        """The time of the first failed call since the last answer."""
        self._reports: set[asyncio.Task[None]] = set()

    def watch(self, emit: EntrySink) -> EntrySink:
        """Wrap `emit` so that notices of failed calls are reported, too."""

        def watching(entry: Entry) -> None:
            emit(entry)
            match entry:
                case Notice(repeat=attempt) if attempt > 0:
                    self._report_failure(entry.text, attempt)
                case TranscriptText() | ToolCall() if self._began is not None:
                    self._began = None
                    self._report(self._usual)

        return watching

    async def close(self) -> None:
        """Wait for the reports, so that none arrives after the state that follows the turn."""
        await asyncio.gather(*self._reports, return_exceptions=True)

    def _report_failure(self, reason: str, attempt: int) -> None:
        if self._began is None:
            self._began = datetime.now(UTC)
        log.warning("%s (attempt %d)", reason, attempt)
        self._report(f"{reason} (repeating since {self._began:%H:%M:%S} UTC, attempt {attempt})")

    def _report(self, detail: str) -> None:
        report = asyncio.create_task(self._call(detail))
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)

    async def _call(self, detail: str) -> None:
        try:
            await self._say(detail)
        except CoreError as error:  # `superseded`, which ends the turn by other calls
            log.warning("the failed call of the model was not reported: %s", error)
