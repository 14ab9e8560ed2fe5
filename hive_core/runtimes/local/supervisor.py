"""The supervisor of one harness: starts it, restarts it after a crash, stops it.

One task per agent does this step by step; `start` and `stop` only set what is requested and wait for the result.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.storage.disk_space import is_lack_of_space
from hive_core.runtimes.base import AgentSpec, UnitState
from hive_core.runtimes.launcher import HarnessProcess, Launcher
from hive_core.runtimes.log_file import LogFile, copy_output
from hive_core.runtimes.unit_state import BackOff

_log = structlog.get_logger(__name__)


_TEMPORARY_ERRORS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
"""Errors of a start that a retry may not have, beside those of a full disk."""
_NO_THREAD = "can't start new thread"
"""The text of the RuntimeError with which `threading` reports the lack of a thread."""


class Supervisor:
    """Supervisor of one agent. `state` is its current state; `publish` gets every change of it."""

    def __init__(
        self,
        spec: AgentSpec,
        launch: Launcher,
        log: LogFile,
        publish: Callable[[UnitState], None],
        *,
        stop_timeout: float,
        back_off: BackOff,
    ) -> None:
        self.spec = spec
        self.state = UnitState(spec.name, "stopped")
        self.last_line = ""
        """The last line that was printed in the last run that has ended."""
        self._launch = launch
        self._log = log
        self._publish = publish
        self._stop_timeout = stop_timeout
        self._back_off = back_off
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._stop_requested = asyncio.Event()
        self._start_requested = asyncio.Event()
        self._start_attempted = asyncio.Event()
        self._child: HarnessProcess | None = None

    async def start(self, spec: AgentSpec) -> None:
        """Start the harness, at once if it waits after a crash; return when the start has succeeded or failed."""
        async with self._lock:
            if self._stop_requested.is_set():
                # A stop whose caller was cancelled is still in progress.
                await self._wait_for_end()
            self.spec = spec
            if self._task is None or self._task.done():
                self._stop_requested.clear()
                self._start_requested.clear()
                self._start_attempted.clear()
                self._task = asyncio.create_task(self._supervise(), name=f"supervise {spec.name}")
            elif self.state.lifecycle == "backoff":
                self._start_attempted.clear()
                self._start_requested.set()
            await self._start_attempted.wait()

    async def stop(self) -> None:
        """Stop the harness and all processes that it started; return when none is left."""
        async with self._lock:
            self._stop_requested.set()
            await self._wait_for_end()
            if self.state.lifecycle == "failed":
                self._become(self.state.change("stopped", exit_cause=self.state.exit_cause))

    async def _wait_for_end(self) -> None:
        if self._task is not None:
            # Shielded, so that the stop continues if its caller is cancelled.
            await asyncio.shield(self._task)

    async def _supervise(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:
            _log.exception("supervision of an agent failed", agent=self.spec.name)
            self._become(self.state.change("failed", exit_cause=f"supervision failed: {error!r}"))
        finally:
            self._start_attempted.set()
            if self._child is not None:
                # This task was cancelled or has failed; the harness must not outlive its supervisor.
                self._child.kill()
                await self._child.wait()
                self._child.close()
                self._child = None

    async def _keep_running(self) -> None:
        delay: float | None = None
        self._become(self.state.change("starting", restarts=0))
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._open_log()
                self._child = await self._launch(self.spec)
            except (OSError, ValueError, MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not _is_temporary(error):
                    raise
                self.last_line = ""
                cause = f"cannot be started: {_describe(error)}"
                if not _is_temporary(error):
                    self._become(self.state.change("failed", exit_cause=cause))
                    return
            else:
                cause = await self._run_to_end(self._child)
            if self._stop_requested.is_set():
                self._become(self.state.change("stopped", exit_cause=cause))
                return
            delay = self._back_off.after(delay, asyncio.get_running_loop().time() - began)
            self._become(self.state.change("backoff", exit_cause=cause))
            self._start_attempted.set()
            if await self._wait_before_restart(delay):
                self._become(self.state.change("stopped", exit_cause=cause))
                return
            if self._start_requested.is_set():
                self._start_requested.clear()
                delay = None
                self._become(self.state.change("starting", restarts=0))
            else:
                self._become(self.state.change("starting", restarts=self.state.restarts + 1))

    async def _open_log(self) -> None:
        try:
            await LIFECYCLE.run(self._log.open)
        except OSError as error:
            # Lines are lost until there is room, which is no reason to keep the agent from running.
            if not is_lack_of_space(error):
                raise

    async def _run_to_end(self, child: HarnessProcess) -> str:
        """Wait for the end of the harness and of all processes that it started; return the cause of the end."""
        self._become(self.state.change("running", pid=child.pid, started_at=datetime.now(UTC)))
        self._start_attempted.set()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(copy_output(child.output, self._log, ended))
            end = tasks.create_task(child.wait())
            stop = tasks.create_task(self._stop_requested.wait())
            await asyncio.wait({end, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not end.done():
                self._become(self.state.change("stopping", pid=child.pid, started_at=self.state.started_at))
                child.terminate()
                await asyncio.wait({end}, timeout=self._stop_timeout)
                if not end.done():
                    child.kill()
            cause = await end
            stop.cancel()
            ended.set_result(None)
        child.close()
        self._child = None
        self.last_line = self._log.last_line
        return cause

    async def _wait_before_restart(self, delay: float) -> bool:
        """Wait for `delay` seconds, or until a start or stop is requested; return True if a stop is requested."""
        stop = asyncio.create_task(self._stop_requested.wait())
        start = asyncio.create_task(self._start_requested.wait())
        try:
            await asyncio.wait({stop, start}, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            start.cancel()
        return self._stop_requested.is_set()

    def _become(self, state: UnitState) -> None:
        self.state = state
        self._publish(state)


def _is_temporary(error: Exception) -> bool:
    """Return True if a start may succeed later: the host was slow, or short of memory, tasks, descriptors, space."""
    if isinstance(error, RuntimeError):
        return str(error) == _NO_THREAD
    if isinstance(error, TimeoutError | MemoryError) or is_lack_of_space(error):
        return True
    return getattr(error, "errno", None) in _TEMPORARY_ERRORS


def _describe(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if not isinstance(error, OSError) or number is None:
        return str(error) or type(error).__name__
    where = f": {error.filename}" if error.filename else ""
    return f"{os.strerror(number)}{where}"
