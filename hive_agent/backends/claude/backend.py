"""The claude backend: Claude Code, kept running between turns and gone on with where it was ended."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from hive_agent.backends import mcp_config as hive_server
from hive_agent.backends.base import (
    Backend,
    BackendContext,
    Choice,
    Failed,
    Login,
    NeedsLogin,
    Ok,
    Turn,
    TurnOutcome,
)
from hive_agent.backends.claude import command as claude_command
from hive_agent.backends.claude import failures as claude_failures
from hive_agent.backends.claude import login as claude_login
from hive_agent.backends.claude import memory
from hive_agent.backends.claude.events import ClaudeEventReader
from hive_agent.backends.claude.process import ClaudeProcess, More, NoOutput, TurnRun
from hive_agent.backends.cli_launch import CliSession, ProgramNotFound, StoredSession
from hive_agent.backends.transcript import Entry, EntrySink, Notice, SessionStarted
from hive_agent.infra import state_files
from hive_agent.prompts import system_prompt, turn_prompt

log = logging.getLogger(__name__)

_LONGEST_FOCUS = 2_000
_ALIASES = ("opus", "sonnet", "haiku")
"""What Claude Code takes for a model in every version; a running one tells which there are."""


def open_backend(context: BackendContext) -> Backend:
    """The claude backend. Its program is looked for with every start, so that installing it helps at once."""
    return ClaudeBackend(context)


class ClaudeBackend:
    """Runs Claude Code in the agent's state directory, one process for as many turns as come soon enough."""

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._config = context.profile.config
        self._where = context.environment
        self._identity = system_prompt.render(context.profile, context.role, self._where, claude_command.TOOL_PREFIX)
        self._choice = Choice(self._config.model, self._config.effort)
        self._session = CliSession(self._where.claude / "hive-session.json")
        self._process: ClaudeProcess | None = None
        self._resting: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._models: Sequence[str] = _ALIASES
        self._window = 0

    # --- the contract -------------------------------------------------------------------------------------------

    @property
    def models(self) -> Sequence[str]:
        return self._models

    async def run(self, turn: Turn, tell: EntrySink) -> TurnOutcome:
        fetch = turn.more

        async def more() -> str:
            deliveries = await fetch() if fetch is not None else ()
            return turn_prompt.render(deliveries, self._messages) if deliveries else ""

        words = turn_prompt.render(turn.deliveries, self._messages)
        if turn.attempt > 1:
            words = turn_prompt.again(words)
        outcome = await self._converse(words, tell, more)
        if outcome is None:
            self._forget(tell)
            outcome = await self._converse(words, tell, more)
        return outcome or Failed("crashed", "Claude Code does not have the conversation that it has just begun")

    async def compact(self, tell: EntrySink, focus: str = "") -> TurnOutcome:
        if self._session.known.id is None:
            return Ok()
        words = f"/compact {' '.join(focus.split())[:_LONGEST_FOCUS]}".rstrip()
        outcome = await self._converse(words, tell, None)
        if outcome is None:
            self._forget(tell)
        return outcome or Ok()

    async def new_session(self) -> None:
        await self._end()
        self._session.remember(StoredSession())

    async def choose(self, choice: Choice) -> None:
        if choice != self._choice:
            await self._end()  # it is asked on its command line; the conversation goes on
            self._choice = choice

    async def log_in(self) -> Login:
        return await claude_login.begin(self._where.variables, self._environment(), self._where.state)

    async def logged_in(self) -> bool:
        return await claude_login.status(self._where.variables, self._environment(), self._where.state)

    @property
    def warm(self) -> bool:
        return self._process is not None and not self._process.gone.is_set()

    async def close(self) -> None:
        await self._end()

    # --- a turn -------------------------------------------------------------------------------------------------

    async def _converse(self, words: str, tell: EntrySink, more: More | None) -> TurnOutcome | None:
        """One prompt and what follows it; None if the program does not have the conversation any more."""
        await self._wake()
        if not self.warm:
            await self._end()
        known = self._session.known.id
        try:
            process = self._process or await self._start()
        except ProgramNotFound as error:
            return Failed("no_program", str(error))
        except OSError as error:
            return Failed("no_program", f"Claude Code could not be started: {error}")
        self._process = process
        number = str(uuid.uuid4())
        reader = ClaudeEventReader(
            self._noting(tell), message=number, server=hive_server.SERVER_NAME, known=known, window=self._window
        )
        turn = TurnRun(process, reader)
        keep = False
        try:
            await turn.run(words, number, more)
            keep = turn.can_go_on
        except NoOutput as error:
            return Failed("hung", str(error))
        except asyncio.CancelledError:
            keep = await turn.interrupt()
            raise
        finally:
            reader.close()
            self._window, self._models = reader.window, process.models or self._models
            await (self._rest(process) if keep else self._end())
        if reader.result is not None and known is not None and claude_failures.conversation_is_gone(reader.result):
            await self._end()  # it is ending anyway
            return None
        outcome = reader.outcome(time.time())
        if isinstance(outcome, NeedsLogin):
            await self._end()  # it would go on with the credentials that it was started with
        if reader.result is None and isinstance(outcome, Failed):
            return Failed(outcome.kind, f"{outcome.detail}{turn.last_words}", outcome.retry_after)
        return outcome

    async def _start(self) -> ClaudeProcess:
        """Write what the program reads, and start it. Raises ProgramNotFound and OSError."""
        where = self._where
        program = claude_command.find_program(where.variables)
        where.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        servers = hive_server.other_servers(where.variables, self._config.mcp_servers, hive_server.SERVER_NAME)
        hive = hive_server.describe_server(self._context.role, where, self._context.instance)
        config = claude_command.mcp_config(
            hive, where.temporary / "mcp-answers.json", hive_server.code_version(), servers
        )
        mcp_config = where.state / "mcp.json"
        state_files.replace_lines(mcp_config, [json.dumps(config, indent=2).encode()])
        identity_file = where.state / "identity.md"
        state_files.replace_lines(identity_file, [self._identity.encode()])
        argv = claude_command.arguments(
            program,
            mcp_config=mcp_config,
            identity=identity_file,
            tools=self._config.tools,
            servers=[hive_server.SERVER_NAME, *servers],
            choice=self._choice,
            session=self._session.known.id,
        )
        log.info("starting Claude Code")
        return await ClaudeProcess.start(argv, self._environment(), where.state)

    def _environment(self) -> dict[str, str]:
        where = self._where
        return claude_command.environment(
            where.variables,
            self._config.environment,
            temporary=where.temporary,
            claude_directory=where.claude,
            confined=where.parent_pid is None,
        )

    @property
    def _messages(self) -> Path:
        return self._where.state / "messages"

    def _noting(self, tell: EntrySink) -> EntrySink:
        """`tell`, which also takes note of the conversation as soon as it has a name: the turn may be killed."""

        def noting(entry: Entry) -> None:
            if isinstance(entry, SessionStarted):
                self._session.remember(StoredSession(id=entry.id))
            tell(entry)

        return noting

    def _forget(self, tell: EntrySink) -> None:
        tell(Notice("warning", "Claude Code does not have the conversation any more: a new one begins"))
        self._session.remember(StoredSession())

    # --- between turns ------------------------------------------------------------------------------------------

    async def _rest(self, process: ClaudeProcess) -> None:
        """Keep the process for the next turn, for a while."""
        await self._wake()
        if self._config.idle_timeout == 0:
            await self._end()
            return
        self._wanted = asyncio.Event()
        self._resting = asyncio.create_task(self._cool_down(process, self._wanted))

    async def _cool_down(self, process: ClaudeProcess, wanted: asyncio.Event) -> None:
        """End the process when nobody has wanted it for long, or it has ended by itself."""
        waiting = [asyncio.create_task(wanted.wait()), asyncio.create_task(process.gone.wait())]
        try:
            await asyncio.wait(waiting, timeout=self._config.idle_timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if not wanted.is_set():
            self._process = None
            self._context.changed()
            await process.end()
            memory.give_back()

    async def _wake(self) -> None:
        """Once this returns, nobody but the caller ends the process."""
        self._wanted.set()
        if self._resting is not None:
            # Not awaited itself: who waits here may be cancelled, and what is being ended has to end all the same.
            await asyncio.wait({self._resting})
            self._resting = None

    async def _end(self) -> None:
        await self._wake()
        process, self._process = self._process, None
        if process is not None:
            await process.end()
