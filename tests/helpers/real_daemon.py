"""A real daemon as a process of its own: started, asked, killed and stopped by tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil

Json = dict[str, Any]
READY_SECONDS = 30.0


class NotRunning(Exception):
    """The daemon ended before it was ready; the text is the end of its log."""


class Daemon:
    """One state directory and the daemon on it, which may be started and ended any number of times.

    `home` must be a short path: unix sockets lie below it. `settings` become `HIVE_<NAME>` variables and `environment`
    the rest; `wrapper` is a command that runs the daemon's command line.
    """

    def __init__(
        self,
        home: Path,
        *,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        state_dir: Path | None = None,
    ) -> None:
        self.home = home
        self.state_dir = state_dir or home / "s"
        self.run_dir = home / "r"
        self.database = self.state_dir / "hive.sqlite"
        self.log = home / "log"
        self.notes: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        # Agents are plain processes, which nothing seals, so they have the host's network.
        self._settings = {"sandbox": "none", "unsealed": True, **(settings or {})}
        self._environment = dict(environment or {})
        self._wrapper = list(wrapper)
        self._sessions: dict[Path, aiohttp.ClientSession] = {}
        self._orphans: list[psutil.Process] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(home / "notify"))
        self._notify.setblocking(False)

    @property
    def host_socket(self) -> Path:
        return self.run_dir / "host.sock"

    def view_socket(self, agent: str) -> Path:
        """The socket on which an agent serves its page."""
        return self.run_dir / "views" / f"{agent}.sock"

    def core_socket(self, agent: str) -> Path:
        return self.run_dir / "agents" / agent / "core.sock"

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None, "the daemon was never started"
        return self.process.pid

    # --- life -----------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Start the process, without waiting for anything."""
        assert not self.running, "the daemon runs already"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HIVE_", "WATCHDOG_"))}
        settings = {f"HIVE_{key.upper()}": str(value) for key, value in self._settings.items()}
        environment = {**kept, "NOTIFY_SOCKET": str(self.home / "notify"), **settings, **self._environment}
        command = [sys.executable, "-m", "hive_core", "serve"]
        places = ["--state-dir", str(self.state_dir), "--run-dir", str(self.run_dir)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._wrapper, *command, *places], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    async def start(self) -> None:
        """Start the process and wait until it says that it is ready."""
        self.launch()
        await self.ready()

    async def ready(self) -> None:
        """Wait for READY from the process that runs now; raises NotRunning if it ends instead."""
        # Within a wrapper the daemon has a number of its own.
        wanted = "READY=1" if self._wrapper else f"READY=1\nMAINPID={self.pid}"
        await self.notified(wanted)

    async def notified(self, wanted: str, seconds: float = READY_SECONDS) -> None:
        """Wait for this notification; forget it and those before it."""
        deadline = time.monotonic() + seconds
        while True:
            alive = self.running  # Asked first: what a process said before it ended still counts.
            with suppress(BlockingIOError):
                while True:
                    self.notes.append(self._notify.recv(4096).decode())
            for place, note in enumerate(self.notes):
                if note == wanted or note.startswith(f"{wanted}\n"):
                    del self.notes[: place + 1]
                    return
            if not alive:
                raise NotRunning(self.log_text()[-2_000:])
            assert time.monotonic() < deadline, f"no {wanted!r} after {seconds} s; the log:\n{self.log_text()[-2_000:]}"
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """SIGKILL, and wait until the process is reaped. What it leaves behind is looked at by `orphans_gone`."""
        if not self.running:
            return
        # Stopped first, so that no child can be started between the look at its children and its death.
        with suppress(psutil.NoSuchProcess):
            daemon = psutil.Process(self.pid)
            os.kill(self.pid, signal.SIGSTOP)
            await asyncio.to_thread(os.waitid, os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._orphans += daemon.children(recursive=True)
        os.kill(self.pid, signal.SIGKILL)
        await self.ended(10)

    async def orphans_gone(self, seconds: float) -> None:
        """Wait until no descendant of a killed daemon is left."""
        deadline = time.monotonic() + seconds
        # Not by `psutil.wait_procs`, which fails where the id of a process is that of a thread by now.
        while alive := [process for process in self._orphans if _is_alive(process)]:
            assert time.monotonic() < deadline, f"they outlived their daemon by {seconds} s: {alive}"
            await asyncio.sleep(0.02)
        self._orphans.clear()

    async def terminate(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return await self.ended(seconds)

    async def ended(self, seconds: float = 30.0) -> int:
        """Wait for the end of the process; the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, seconds)

    async def close(self) -> None:
        """End the process, whatever state it is in."""
        await self.kill()
        for session in self._sessions.values():
            await session.close()
        self._notify.close()
        await self.orphans_gone(20)

    def seen_inside(self, path: Path) -> Path:
        """The same path as the daemon within a wrapper sees it, which may have mounts of its own."""
        inner = psutil.Process(self.pid).children(recursive=True)[-1]
        return Path(f"/proc/{inner.pid}/root") / path.relative_to("/")

    # --- requests -------------------------------------------------------------------------------------------

    async def request(
        self, method: str, path: str, body: object = None, *, agent: str | None = None
    ) -> tuple[int, Json]:
        """Status and answer of one request: the operator's, or that of `agent` on its own socket."""
        place = self.host_socket if agent is None else self.core_socket(agent)
        if place not in self._sessions:
            # A connection per request, so that none is a dead daemon's.
            connector = aiohttp.UnixConnector(str(place), force_close=True)
            self._sessions[place] = aiohttp.ClientSession(connector=connector)
        async with self._sessions[place].request(method, f"http://hive{path}", json=body) as response:
            return response.status, json.loads(await response.read())

    async def ask(self, method: str, path: str, body: object = None, *, agent: str | None = None) -> Json:
        """The answer of a request that must succeed."""
        status, answer = await self.request(method, path, body, agent=agent)
        assert status == 200, f"{method} {path}: {status} {answer}"
        return answer

    async def spawn(self, name: str, *, start: bool = True, script: Sequence[Json] = ()) -> Json:
        """Make an agent with the scripted backend."""
        config = {"backend": "scripted", "script": list(script)}
        return await self.ask("POST", "/v1/agents", {"name": name, "config": config, "start": start})

    async def agents(self) -> dict[str, Json]:
        """Every agent's status, by name."""
        return {agent["name"]: agent for agent in (await self.ask("GET", "/v1/agents"))["agents"]}

    async def agent_until(self, name: str, condition: Callable[[Json], bool], seconds: float = 30.0) -> Json:
        """Wait until `condition` holds for an agent's status."""
        deadline = time.monotonic() + seconds
        while True:
            status = (await self.agents())[name]
            if condition(status):
                return status
            assert time.monotonic() < deadline, f"after {seconds} s still {status}"
            await asyncio.sleep(0.02)

    # --- looking inside -------------------------------------------------------------------------------------

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds in the database; nothing can be changed this way."""
        connection = sqlite3.connect(self.database)
        try:
            connection.execute("PRAGMA query_only = ON")
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def log_text(self) -> str:
        """All that the daemons on this directory have written to their standard output and error."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_entries(self, event: str) -> list[Json]:
        """The log's JSON lines of one event."""
        lines = (line for line in self.log_text().splitlines() if line.startswith("{"))
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def _is_alive(process: psutil.Process) -> bool:
    """Return True if the process, and not a later one with its id, has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[Daemon]:
    """Started within the block, gone after it."""
    try:
        await daemon.start()
        yield daemon
    finally:
        await daemon.close()
