"""Logging Claude Code in: `claude auth login`, which shows an address and takes the code that is found there."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from hive_agent.backends.base import Login, LoginFailed
from hive_agent.backends.claude.command import find_program
from hive_agent.backends.cli_launch import ProgramNotFound
from hive_agent.infra.processes import Program, running

_URL = re.compile(r"https://[!-~]{1,4000}(?=\s)")
# Sequences that a program writes for a terminal.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_URL_SECONDS = 60.0
_RESULT_SECONDS = 90.0
_STATUS_SECONDS = 45.0
_MOST_SAID = 20_000
_SHOWN = 500


async def status(variables: Mapping[str, str], environment: Mapping[str, str], directory: Path) -> bool:
    """Whether there are credentials: a key or token in the environment, or a login. False if it cannot be told."""
    try:
        argv = [str(find_program(variables)), "auth", "status"]
        async with running(argv, environment, directory, orphans=False) as process, asyncio.timeout(_STATUS_SECONDS):
            await process.communicate()
            return process.returncode == 0
    except (ProgramNotFound, OSError, TimeoutError):
        return False


async def begin(variables: Mapping[str, str], environment: Mapping[str, str], directory: Path) -> Login:
    """Start a login, and wait for its address. Raises LoginFailed."""
    try:
        argv = [str(find_program(variables)), "auth", "login"]
        program = await Program.start(argv, environment, directory, orphans=False)
    except ProgramNotFound as error:
        raise LoginFailed(str(error)) from None
    except OSError as error:
        raise LoginFailed(f"Claude Code could not be started: {error}") from None
    login = ClaudeLogin(program)
    try:
        await login.find_url()
    except BaseException:
        await login.close()
        raise
    return login


class ClaudeLogin:
    """The program, which waits for the code."""

    def __init__(self, program: Program) -> None:
        self.url = ""
        self._program = program
        self._said = ""
        self._moved = asyncio.Event()
        process = program.process
        self._listening = [asyncio.create_task(self._listen(stream)) for stream in (process.stdout, process.stderr)]

    async def find_url(self) -> None:
        """Wait until the program has said the address. Raises LoginFailed."""
        try:
            async with asyncio.timeout(_URL_SECONDS):
                while (found := _URL.search(self._said)) is None:
                    if self._ended:
                        raise LoginFailed(self._words("Claude Code showed no address to log in at"))
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise LoginFailed(self._words("Claude Code showed no address to log in at")) from None
        self.url = found[0]
        self._said = ""

    async def give(self, code: str) -> None:
        stdin = self._program.process.stdin
        assert stdin is not None
        self._said = ""
        with contextlib.suppress(ConnectionError):  # it has ended, and said why
            stdin.write(code.encode() + b"\n")
            await stdin.drain()
        try:
            async with asyncio.timeout(_RESULT_SECONDS):
                while not self._ended:
                    self._moved.clear()
                    await self._moved.wait()
                ended = await self._program.process.wait()
        except TimeoutError:
            raise LoginFailed(self._words("Claude Code does not say whether it is logged in now")) from None
        if ended != 0:
            raise LoginFailed(self._words("Claude Code did not take the code"))

    async def close(self) -> None:
        try:
            await self._program.end()
        finally:
            for task in self._listening:
                task.cancel()
            await asyncio.gather(*self._listening, return_exceptions=True)

    @property
    def _ended(self) -> bool:
        return all(task.done() for task in self._listening)

    async def _listen(self, stream: asyncio.StreamReader | None) -> None:
        try:
            while stream is not None and (piece := await stream.read(4_096)):
                self._said = (self._said + piece.decode(errors="replace"))[-_MOST_SAID:]
                self._moved.set()
        finally:
            asyncio.get_running_loop().call_soon(self._moved.set)  # when this task is done, too

    def _words(self, what: str) -> str:
        said = " ".join(_ESCAPES.sub("", self._said).split())
        shown = "".join(letter for letter in said if letter.isprintable())[-_SHOWN:]
        return f"{what}: {shown}" if shown else what
