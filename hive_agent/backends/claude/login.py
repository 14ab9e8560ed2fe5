"""Logging Claude Code in with `claude auth login`, which shows an address and reads the code that is shown there."""

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
# Terminal control sequences.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
# Claude Code asks again, without an end, for a code that was not copied whole.
_ASKS_AGAIN = re.compile(r"look like the full code|invalid code", re.IGNORECASE)
_URL_SECONDS = 60.0
_RESULT_SECONDS = 90.0
_STATUS_SECONDS = 45.0
_MOST_OUTPUT = 20_000
_SHOWN = 500


HOW = (
    "Claude Code has no key and no login: log in with hive-c0re login or on the agent's page, or set ANTHROPIC_API_KEY "
    "and add it to pass_environment of the hive"
)
"""The detail of an agent without credentials."""
_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_OTHER_PROVIDERS = "CLAUDE_CODE_USE_"
"""The beginning of variables that name a cloud, which has credentials of its own."""


async def has_credentials(
    variables: Mapping[str, str], environment: Mapping[str, str], directory: Path, home: Path
) -> bool | None:
    """Return whether there are credentials: a key or token in the environment, or a login. None if that is not known.

    `home` is the directory of the login. Claude Code is asked only if neither is found, because that starts a process.
    """
    if any(environment.get(key) for key in _KEYS) or (home / ".credentials.json").is_file():
        return True
    if any(key.startswith(_OTHER_PROVIDERS) for key in environment):
        return None
    try:
        argv = [str(find_program(variables)), "auth", "status"]
        async with running(argv, environment, directory, orphans=False) as process, asyncio.timeout(_STATUS_SECONDS):
            answer, _ = await process.communicate()
    except (ProgramNotFound, OSError, TimeoutError):
        return None
    # An exit code alone could be that of a program that cannot run.
    return True if process.returncode == 0 else False if b"loggedIn" in answer else None


async def start_login(variables: Mapping[str, str], environment: Mapping[str, str], directory: Path) -> Login:
    """Start a login and wait for its address. Raises LoginFailed."""
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
    """A running `claude auth login`, which waits for the code."""

    def __init__(self, program: Program) -> None:
        self.url = ""
        self._program = program
        self._output = ""
        self._changed = asyncio.Event()
        process = program.process
        self._listening = [asyncio.create_task(self._listen(stream)) for stream in (process.stdout, process.stderr)]

    async def find_url(self) -> None:
        """Wait until the program shows the address. Raises LoginFailed."""
        try:
            async with asyncio.timeout(_URL_SECONDS):
                while (found := _URL.search(self._output)) is None:
                    if self._ended:
                        raise LoginFailed(self._with_output("Claude Code showed no address for the login"))
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise LoginFailed(self._with_output("Claude Code showed no address for the login")) from None
        self.url = found[0]
        self._output = ""

    async def submit_code(self, code: str) -> None:
        stdin = self._program.process.stdin
        assert stdin is not None
        self._output = ""
        with contextlib.suppress(ConnectionError):  # it has exited, and its output says why
            stdin.write(code.encode() + b"\n")
            await stdin.drain()
        try:
            async with asyncio.timeout(_RESULT_SECONDS):
                while not self._ended:
                    self._changed.clear()
                    if _ASKS_AGAIN.search(self._output):
                        raise LoginFailed(self._with_output("Claude Code did not accept the code"))
                    await self._changed.wait()
                exit_code = await self._program.process.wait()
        except TimeoutError:
            raise LoginFailed(self._with_output("Claude Code did not accept or reject the code in time")) from None
        if exit_code != 0:
            raise LoginFailed(self._with_output("Claude Code did not accept the code"))

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
                self._output = (self._output + piece.decode(errors="replace"))[-_MOST_OUTPUT:]
                self._changed.set()
        finally:
            asyncio.get_running_loop().call_soon(self._changed.set)  # after this task has ended

    def _with_output(self, message: str) -> str:
        output = " ".join(_ESCAPES.sub("", self._output).split())
        shown = "".join(character for character in output if character.isprintable())[-_SHOWN:]
        return f"{message}: {shown}" if shown else message
