"""The claude backend: one run of Claude Code per turn, which goes on with the agent's conversation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path

import hive_agent
from hive_agent import identity, prompt
from hive_agent.backends import claude_command, mcp_servers
from hive_agent.backends.base import Backend, BackendContext, Choice, Failed, Login, Ok, Turn, TurnOutcome
from hive_agent.backends.claude_events import Reading
from hive_agent.processes import running
from hive_agent.transcript import Tell

log = logging.getLogger(__name__)

_STDERR_KEPT = 4_000
_LEAVE_SECONDS = 10.0
"""How long the program may take to end after its result."""
_LAST_WORDS_SECONDS = 0.5
"""How long stderr is read after the end: a process left behind may hold it open."""
_PROBE_SECONDS = 30.0


def open_backend(context: BackendContext) -> Backend:
    """The claude backend. Its program is looked for with every turn, so that installing it helps at once."""
    return ClaudeBackend(context)


class ClaudeBackend:
    """Runs Claude Code in the agent's state directory."""

    models: Sequence[str] = ()

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._identity = identity.render(context.profile, context.role, context.environment, claude_command.TOOL_PREFIX)
        self._snapshot_option: dict[Path, bool] = {}

    async def run(self, turn: Turn, tell: Tell) -> TurnOutcome:
        where = self._context.environment
        config = self._context.profile.config
        try:
            program = claude_command.find_program(where.variables)
            servers = mcp_servers.configured(where.variables, claude_command.SERVER)
            mcp_config = self._write_files(servers)
            argv = claude_command.arguments(
                program,
                mcp_config=mcp_config,
                identity=self._identity,
                tools=config.tools,
                servers=[claude_command.SERVER, *servers],
                model=config.model,
                snapshot_option=await self._has_snapshot_option(program),
            )
            text = prompt.render(turn.deliveries, where.state / "messages")
            async with running(argv, self._environment(), where.state) as process:
                return await _converse(process, text)
        except claude_command.NoProgram as error:
            return Failed("no_program", str(error))
        except OSError as error:
            return Failed("no_program", f"Claude Code could not be started: {error}")

    async def compact(self, tell: Tell, focus: str = "") -> TurnOutcome:
        return Ok()

    async def new_session(self) -> None:
        raise NotImplementedError

    async def choose(self, choice: Choice) -> None:
        raise NotImplementedError

    async def log_in(self) -> Login:
        raise NotImplementedError

    async def logged_in(self) -> bool:
        raise NotImplementedError

    @property
    def warm(self) -> bool:
        return False

    async def close(self) -> None:
        """Nothing is kept open between turns."""

    def _environment(self) -> dict[str, str]:
        where = self._context.environment
        return claude_command.child_environment(
            where.variables,
            temporary=where.temporary,
            claude_directory=where.claude,
            confined=where.parent_pid is None,
        )

    def _write_files(self, servers: Mapping[str, object]) -> Path:
        """Write what the program reads, and the identity for people; returns the MCP configuration's path.

        `servers` are those beside the hive's.
        """
        where = self._context.environment
        where.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(where.state / "identity.md", self._identity)
        code = str(Path(hive_agent.__file__).parents[1])
        config = claude_command.mcp_config(
            sys.executable,
            self._context.role.module,
            {
                "HIVE_AGENT_RUN": str(where.run),
                "HIVE_AGENT_STATE": str(where.state),
                "HIVE_AGENT_CONFIG": str(where.config),
                "HIVE_AGENT_APPLIED": where.variables.get("HIVE_AGENT_APPLIED", ""),
                "HIVE_INSTANCE": self._context.instance,
                # The server must be this harness's code: neither what lies in the agent's working directory,
                # nor what its Python would find on its own.
                "PYTHONSAFEPATH": "1",
                "PYTHONPATH": os.pathsep.join(filter(None, [code, where.variables.get("PYTHONPATH")])),
            },
            servers,
        )
        path = where.state / "mcp.json"
        _write(path, json.dumps(config, indent=2))
        return path

    async def _has_snapshot_option(self, program: Path) -> bool:
        """Whether this version knows `--system-prompt-snapshot`; older ones refuse to start with it."""
        if program not in self._snapshot_option:
            where = self._context.environment
            async with running([str(program), "--help"], self._environment(), where.state) as process:
                try:
                    async with asyncio.timeout(_PROBE_SECONDS):
                        output, _ = await process.communicate()
                except TimeoutError:
                    return False
            self._snapshot_option[program] = b"--system-prompt-snapshot" in output
        return self._snapshot_option[program]


async def _converse(process: Process, text: str) -> TurnOutcome:
    """Give the prompt, read events until the result, and judge."""
    reading = Reading(server=claude_command.SERVER)
    stderr = bytearray()
    giving = asyncio.create_task(_give(process, text))
    listening = asyncio.create_task(_keep_tail(process, stderr))
    try:
        await _read(process, reading)
        if reading.server_status == "failed":
            # Without the hive's tools no answer would reach anyone, and yet the turn would look well.
            return Failed(
                "no_tools", "Claude Code could not start the hive's MCP server (mcp.json in the state directory)"
            )
        exit_code = await _exit_code(process)
        await asyncio.wait({listening}, timeout=_LAST_WORDS_SECONDS)
    finally:
        giving.cancel()
        listening.cancel()
        await asyncio.gather(giving, listening, return_exceptions=True)
    denied = ", ".join(reading.denied) or "none"
    log.info("claude: %d model calls, %.4f USD, denied tools: %s", reading.turns, reading.cost_usd, denied)
    return reading.outcome(exit_code, stderr.decode(errors="replace"))


async def _give(process: Process, text: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):  # it ended early; its exit tells why
            process.stdin.write(text.encode())
            await process.stdin.drain()
        process.stdin.close()


async def _read(process: Process, reading: Reading) -> None:
    """Feed events until there is a result, the output ends, or the hive's tools turn out to be missing."""
    while process.stdout is not None and not reading.finished and reading.server_status != "failed":
        try:
            line = await process.stdout.readline()
        except ValueError:
            log.warning("claude wrote a line beyond the limit, which was skipped")
            continue
        if not line:
            return
        reading.feed(line)


async def _exit_code(process: Process) -> int | None:
    """How the program ended; None if it goes on after its result (the caller's `running` kills it)."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            while process.stdout is not None and await process.stdout.read(65_536):
                pass  # a full pipe would keep it from ending
            return await process.wait()
    except TimeoutError:
        return process.returncode


async def _keep_tail(process: Process, tail: bytearray) -> None:
    while process.stderr is not None and (piece := await process.stderr.read(65_536)):
        tail += piece
        del tail[:-_STDERR_KEPT]


def _write(path: Path, text: str) -> None:
    """Replace the file at once, readable by its owner only."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
