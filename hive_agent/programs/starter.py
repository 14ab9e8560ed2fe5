"""The harness's part of long-running programs: starts their keepers, and continues them after a restart.

A keeper is a unit of the agent's systemd where there is one, and then outlives the harness. Otherwise it is a child of
the harness and ends with it; the next harness starts the program again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ValidationError

from hive_agent.environment import AgentEnvironment
from hive_agent.infra.turn_environment import child_environment
from hive_agent.programs.records import (
    MOST_BYTES,
    MOST_KEPT,
    MOST_RUNNING,
    STARTER,
    Order,
    ProgramRecord,
    Status,
    listen,
    read_records,
)
from hive_core.protocol import Profile

log = logging.getLogger(__name__)

_START_SECONDS = 15.0
_STOP_SECONDS = 2.0
_MOST_RESTARTS = 5
_RESTARTS_WITHIN = timedelta(hours=1)
_KEEPER = Path(__file__).with_name("keeper.py")
"""Run by its path, and not imported: it loads `ctypes`, which is not for harnesses at rest."""
_SYSTEMD = Path("/run/systemd/system")


class ProgramRefused(Exception):
    """A program that is not started; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StarterRequest(BaseModel, extra="forbid"):
    """A request on the starter's socket: an agent's order, or that of a keeper for the order of its program."""

    run: Order | None = None
    keep: str = ""


@asynccontextmanager
async def serve_programs(environment: AgentEnvironment, profile: Profile) -> AsyncIterator[None]:
    """Accept orders while the harness runs, and continue the programs that a restart has ended. Raises OSError."""
    directory = environment.programs
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    base = child_environment(environment.variables, (), profile.config.environment)
    # A plain process of the daemon would reach the systemd of the host.
    systemd_run = _find_systemd_run(base) if environment.parent_pid is None else None
    starter = Starter(directory, base, systemd_run)
    server = await asyncio.start_server(starter.answer, sock=listen(directory, STARTER), limit=2 * MOST_BYTES)
    continuing = asyncio.create_task(starter.continue_all())
    try:
        yield
    finally:
        continuing.cancel()
        server.close()
        await asyncio.gather(continuing, return_exceptions=True)
        await starter.close()


def _find_systemd_run(variables: Mapping[str, str]) -> str | None:
    if not _SYSTEMD.is_dir() or os.geteuid() != 0:
        return None
    return shutil.which("systemd-run", path=variables.get("PATH"))


class Starter:
    """Starts programs with the environment `base`; by `systemd_run` if there is one.

    `grace` is the time that a program has to end after SIGTERM, in seconds.
    """

    def __init__(
        self, directory: Path, base: Mapping[str, str], systemd_run: str | None = None, *, grace: float = 5.0
    ) -> None:
        self._directory = directory
        self._base = base
        self._systemd_run = systemd_run
        self._grace = grace
        self._lock = asyncio.Lock()
        self._children: dict[int, asyncio.Future[None]] = {}
        """The ends of the keepers that are children of this process."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of a program in the agent."""
        try:
            async with asyncio.timeout(2 * _START_SECONDS):
                reply = await self._reply(await reader.readline())
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError) as error:  # among them a request that is too long, and TimeoutError
            log.warning("a request for a long-running program failed: %s", type(error).__name__)
        finally:
            writer.close()

    async def _reply(self, line: bytes) -> Mapping[str, object]:
        try:
            request = StarterRequest.model_validate_json(line)
            if request.keep:
                return {"order": self._complete_order(request.keep)}
            if request.run is None:
                raise ProgramRefused("the request names nothing to run")
            order = request.run.model_copy(update={"starts": [], "restart_reason": ""})
            status = await self.start(order)
            return {"pid": status.pid}
        except ValidationError as error:
            first = error.errors()[0]
            return {"error": f"the order is not valid: {first['msg']}", "hint": "see hive-ag3nt run --help"}
        except ProgramRefused as refusal:
            return {"error": str(refusal), "hint": refusal.hint}

    def _complete_order(self, name: str) -> Mapping[str, object]:
        """Return what a keeper needs, with the whole environment."""
        record = next((record for record in read_records(self._directory) if record.name == name), None)
        order = record.order() if record is not None else None
        if order is None:
            raise ProgramRefused(f"there is no program {name}")
        return {
            "argv": order.argv,
            "directory": order.directory,
            "environment": {**self._base, **order.environment},
            "grace": self._grace,
        }

    async def start(self, order: Order) -> Status:
        """Start a program and return its state. Raises ProgramRefused."""
        async with self._lock:
            record = ProgramRecord(self._directory / order.name)
            self._check_room(record)
            now = datetime.now(UTC)
            recent = [start for start in order.starts if start > now - _RESTARTS_WITHIN]
            try:
                if not order.restart_reason:
                    record.remove()
                record.store(order.model_copy(update={"starts": [*recent, now]}))
                problem = await self._start_keeper(record)
            except OSError as error:
                raise ProgramRefused(f"{order.name} cannot be started: {error.strerror or error}") from None
            status = record.status()
            if problem or status.state == "failed":
                raise ProgramRefused(f"{order.name} {status.reason if status.state == 'failed' else problem}")
            return status

    def _check_room(self, record: ProgramRecord) -> None:
        """Raise ProgramRefused if it, or too many others, run; remove the record that ended first if need be."""
        others = [other for other in read_records(self._directory) if other.name != record.name]
        if record.is_alive():
            raise ProgramRefused(
                f"{record.name} runs already", f"hive-ag3nt stop {record.name}, or choose another name"
            )
        states = {other.name: other.status() for other in others}
        if sum(status.state == "running" for status in states.values()) >= MOST_RUNNING:
            raise ProgramRefused(f"{MOST_RUNNING} programs run already", "hive-ag3nt ps lists them; stop one of them")
        ended = [other for other in others if states[other.name].state != "running"]
        ended.sort(key=lambda other: states[other.name].ended_at or datetime.min.replace(tzinfo=UTC))
        for other in ended[: max(0, len(others) + 1 - MOST_KEPT)]:
            other.remove()

    async def continue_all(self) -> None:
        """Start the programs again that ended with an earlier harness, unless they were started too often."""
        for record in read_records(self._directory):
            order, status = record.order(), record.status()
            if order is None or status.state != "interrupted":
                continue
            now = datetime.now(UTC)
            if sum(start > now - _RESTARTS_WITHIN for start in order.starts) >= _MOST_RESTARTS:
                status.state = "failed"
                status.reason = f"not started again: {_MOST_RESTARTS} starts within an hour"
                record.settle(status)
                log.warning("the program %s is %s", record.name, status.reason)
                continue
            again = order.model_copy(update={"restart_reason": "the harness was restarted"})
            try:
                await self.start(again)
            except ProgramRefused as refusal:
                log.warning("a long-running program was not started again: %s", refusal)
                if record.status().state == "interrupted":
                    record.settle(Status(state="failed", ended_at=now, reason=f"not started again: {refusal}"[:2_000]))
            else:
                log.info("the program %s was started again", record.name)

    async def _start_keeper(self, record: ProgramRecord) -> str:
        """Start the keeper, and wait until it has started the program; returns the reason if it has not."""
        line = [sys.executable, "-I", "-S", str(_KEEPER), str(record.directory)]
        if self._systemd_run is not None:
            code, words = await self._run_unit(record.name, line)
            if code == 0:
                return ""
            if record.status().state == "failed":
                return words
            log.warning("systemd does not start programs here, the harness does: %s", words)
            self._systemd_run = None
        return await self._start_child(line)

    async def _run_unit(self, name: str, line: list[str]) -> tuple[int, str]:
        assert self._systemd_run is not None
        options = ["--quiet", "--collect", f"--unit=hive-program-{name}", "--service-type=notify"]
        options += [f"--property={setting}" for setting in ("KillMode=mixed", "TimeoutStopSec=12", "Restart=no")]
        process = await asyncio.create_subprocess_exec(
            self._systemd_run,
            *options,
            "--",
            *line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": self._base.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                _, words = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return 1, f"systemd did not start it within {_START_SECONDS:g} s"
        return process.returncode or 0, words.decode(errors="replace").strip()[-500:]

    async def _start_child(self, line: list[str]) -> str:
        from hive_agent.infra import processes  # noqa: PLC0415 (`ctypes` is not for harnesses at rest)

        # Popen, which does not wait: a turn that ends meanwhile would kill a child that is not spared yet.
        child = subprocess.Popen(  # noqa: ASYNC220, S603
            [*line, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={name: value for name, value in self._base.items() if name.startswith(("HIVE_", "PATH", "LANG"))},
        )
        processes.spare(child.pid)
        loop = asyncio.get_running_loop()
        ended = self._children[child.pid] = loop.create_future()
        pidfd = os.pidfd_open(child.pid)

        def reap() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            child.wait()
            processes.release(child.pid)
            self._children.pop(child.pid).set_result(None)

        loop.add_reader(pidfd, reap)
        assert child.stdout is not None
        with child.stdout as pipe:
            told = loop.create_future()
            loop.add_reader(pipe, _resolve, told)
            try:
                await asyncio.wait({told, ended}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if told.done() and os.read(pipe.fileno(), 64):
                    return ""
            finally:
                loop.remove_reader(pipe)
        with contextlib.suppress(ProcessLookupError):
            if not ended.done():
                os.kill(child.pid, signal.SIGTERM)
        return f"was not started within {_START_SECONDS:g} s" if not told.done() else "was not started"

    async def close(self) -> None:
        """End the programs that end with the harness; those of systemd go on."""
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if self._children:
            await asyncio.wait(set(self._children.values()), timeout=_STOP_SECONDS)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
