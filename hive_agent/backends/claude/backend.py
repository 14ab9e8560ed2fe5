"""The claude backend: Claude Code, kept running between turns; its conversation is continued after an exit."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
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
from hive_agent.backends.cli_launch import CliSession, ProgramNotFound, StoredSession, not_started
from hive_agent.backends.mcp_launch import read_secrets
from hive_agent.backends.transcript import Entry, EntrySink, Notice, SessionStarted
from hive_agent.infra import leftovers, state_files
from hive_agent.prompts import system_prompt, turn_prompt
from hive_agent.repositories.places import Workplace, find_workplace

log = logging.getLogger(__name__)

_OWN_FILES = (".claude.json", ".credentials.json", "settings.json")
"""The JSON files that Claude Code keeps in its directory."""
_LONGEST_FOCUS = 2_000
_PROMPT_END = "(end of the new messages)"
"""The last part of the prompt of a turn. Claude Code expands only the last part of a prompt: `@path` into the content
of that file, `@agent-name` and some words into instructions, a leading `/` into a command. Other parts reach the model
unchanged.
"""
_ALIASES = ("opus", "sonnet", "haiku")
"""Names of models that every version of Claude Code accepts; a running process reports the complete list."""


def open_backend(context: BackendContext) -> Backend:
    """Open the claude backend. It searches its program at every start, so that an installation takes effect at once."""
    return ClaudeBackend(context)


class ClaudeBackend:
    """Runs Claude Code in the directory of `find_workplace`: one process for all turns until it is idle for long."""

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._config = context.profile.config
        self._agent = context.environment
        self._identity = system_prompt.render(context.profile, context.role, self._agent, claude_command.TOOL_PREFIX)
        self._choice = Choice(self._config.model, self._config.effort)
        self._session = CliSession(self._agent.claude / "hive-session.json")
        self._process: ClaudeProcess | None = None
        self._secrets: Mapping[str, str] = {}
        self._idle_task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._models: Sequence[str] = _ALIASES
        self._window = 0
        self._workplace = Workplace(self._agent.state)

    # --- the interface of a backend -----------------------------------------------------------------------------

    @property
    def models(self) -> Sequence[str]:
        return self._models

    async def run(self, turn: Turn, emit: EntrySink) -> TurnOutcome:
        fetch = turn.more

        async def more() -> str:
            deliveries = await fetch() if fetch is not None else ()
            return turn_prompt.render(deliveries, self._messages) if deliveries else ""

        prompt = turn_prompt.render(turn.deliveries, self._messages)
        if turn.attempt > 1:
            prompt = turn_prompt.render_retry(prompt)
        outcome = await self._run_prompt((prompt, _PROMPT_END), emit, more)
        if outcome is None:
            self._discard_session(emit)
            outcome = await self._run_prompt((prompt, _PROMPT_END), emit, more)
        return outcome or Failed("crashed", "Claude Code does not find the conversation that it has just started")

    async def compact(self, emit: EntrySink, focus: str = "") -> TurnOutcome:
        if self._session.known.id is None:
            return Ok()
        command = f"/compact {' '.join(focus.split())[:_LONGEST_FOCUS]}".rstrip()
        outcome = await self._run_prompt((command,), emit, None)
        if outcome is None:
            self._discard_session(emit)
        return outcome or Ok()

    async def new_session(self, *, notes: bool = False) -> None:
        await self._end()
        self._session.end(notes=notes)

    async def return_to_session(self) -> None:
        await self._end()
        self._session.go_back()

    async def choose(self, choice: Choice) -> None:
        if choice != self._choice:
            await self._end()  # the model is an argument of the process; the conversation is continued
            self._choice = choice

    async def log_in(self) -> Login:
        self._set_damaged_aside()
        return await claude_login.start_login(self._agent.variables, self._environment(), self._agent.state)

    async def logged_in(self) -> bool:
        return bool(await self._has_credentials())

    async def find_problem(self) -> Failed | NeedsLogin | None:
        try:
            claude_command.find_program(self._agent.variables)
        except ProgramNotFound as error:
            return Failed("no_program", str(error))
        # What cannot be found out is no problem that is known.
        return NeedsLogin(claude_login.HOW) if await self._has_credentials() is False else None

    async def _has_credentials(self) -> bool | None:
        self._set_damaged_aside()
        return await claude_login.has_credentials(
            self._agent.variables, self._environment(), self._agent.state, self._agent.claude
        )

    @property
    def warm(self) -> bool:
        return self._process is not None and not self._process.gone.is_set()

    async def close(self) -> None:
        await self._end()

    # --- a turn -------------------------------------------------------------------------------------------------

    async def _run_prompt(self, parts: Sequence[str], emit: EntrySink, more: More | None) -> TurnOutcome | None:
        """Run one prompt to its result; None if Claude Code no longer has the conversation."""
        await self._stop_idling()
        if not self.warm or self._has_other_secrets():
            await self._end()
        await self._follow_workplace()
        known = self._session.known.id
        if known is None and self._session.known.shortened:
            parts = (turn_prompt.render_notes(self._agent.state) + parts[0], *parts[1:])
        try:
            process = self._process or await self._start()
        except ProgramNotFound as error:
            return Failed("no_program", str(error))
        except OSError as error:
            return not_started("Claude Code", error)
        self._process = process
        number = str(uuid.uuid4())
        reader = ClaudeEventReader(
            self._tracking_session(emit),
            message=number,
            server=hive_server.SERVER_NAME,
            known=known,
            window=self._window,
        )
        turn = TurnRun(process, reader)
        keep = False
        try:
            await turn.run(parts, number, more)
            keep = turn.can_continue
        except NoOutput as error:
            return Failed("hung", str(error))
        except asyncio.CancelledError:
            keep = await turn.interrupt()
            raise
        finally:
            reader.close()
            self._window, self._models = reader.window, process.models or self._models
            await (self._keep_idle(process) if keep else self._end())
        if reader.result is not None and known is not None and claude_failures.is_conversation_missing(reader.result):
            await self._end()  # it exits anyway
            return None
        outcome = reader.outcome(time.time())
        if isinstance(outcome, NeedsLogin):
            await self._end()  # it would keep the credentials that it was started with
        if reader.result is None and isinstance(outcome, Failed):
            return Failed(outcome.kind, f"{outcome.detail}{turn.exit_report}", outcome.retry_after)
        return outcome

    async def _start(self) -> ClaudeProcess:
        """Write the configuration of Claude Code and start it. Raises ProgramNotFound and OSError."""
        agent = self._agent
        self._set_damaged_aside()
        program = claude_command.find_program(agent.variables)
        agent.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = hive_server.other_servers(agent.variables, self._config.mcp_servers, hive_server.SERVER_NAME)
        servers = hive_server.prepare_servers(agent, others, self._config)
        hive = hive_server.describe_server(self._context.role, agent, self._context.instance)
        config = claude_command.mcp_config(
            hive, agent.temporary / "mcp-answers.json", hive_server.code_version(), servers
        )
        mcp_config = agent.state / "mcp.json"
        state_files.replace_lines(mcp_config, [json.dumps(config, indent=2).encode()])
        identity_file = agent.state / "identity.md"
        state_files.replace_lines(identity_file, [self._identity.encode()])
        argv = claude_command.arguments(
            program,
            mcp_config=mcp_config,
            identity=identity_file,
            tools=self._config.tools,
            servers=[hive_server.SERVER_NAME, *servers],
            choice=self._choice,
            session=self._session.known.id,
            instructed=self._workplace.instructed,
            apart=self._workplace.instructed != self._workplace.directory,
        )
        log.info("starting Claude Code")
        self._secrets = read_secrets(agent.secrets, self._config.secrets)
        return await ClaudeProcess.start(argv, self._environment(), self._workplace.directory)

    async def _follow_workplace(self) -> None:
        """End the process if the next turn runs elsewhere, or with other instructions; a new one is started there."""
        found = find_workplace(self._context.profile, self._agent)
        if found.instructed is not None:
            found = find_workplace(self._context.profile, self._agent, claude_command.PROJECT_SETTINGS)
        if found != self._workplace:
            await self._end()
            self._workplace = found

    def _has_other_secrets(self) -> bool:
        """Return whether the agent has other secrets now than when its process was started."""
        return read_secrets(self._agent.secrets, self._config.secrets) != self._secrets

    def _set_damaged_aside(self) -> None:
        """Move files aside that a killed Claude Code has left half written: it refuses to start on them."""
        if not self.warm:
            leftovers.set_damaged_aside(self._agent.claude / name for name in _OWN_FILES)

    def _environment(self) -> dict[str, str]:
        agent = self._agent
        secrets = read_secrets(agent.secrets, self._config.secrets)
        return claude_command.environment(
            {**agent.variables, **secrets},
            [*self._config.environment, *secrets],
            temporary=agent.temporary,
            claude_directory=agent.claude,
            confined=agent.parent_pid is None,
        )

    @property
    def _messages(self) -> Path:
        return self._agent.state / "messages"

    def _tracking_session(self, emit: EntrySink) -> EntrySink:
        """Wrap `emit` so that the id of the conversation is stored at once, in case the turn is killed."""

        def tracking(entry: Entry) -> None:
            if isinstance(entry, SessionStarted):
                self._session.store(StoredSession(id=entry.id))
            emit(entry)

        return tracking

    def _discard_session(self, emit: EntrySink) -> None:
        emit(Notice("warning", "Claude Code no longer has the conversation: a new one starts"))
        self._session.store(StoredSession(shortened=True))

    # --- between turns ------------------------------------------------------------------------------------------

    async def _keep_idle(self, process: ClaudeProcess) -> None:
        """Keep the process for the next turn, for at most `idle_timeout`."""
        await self._stop_idling()
        if self._config.idle_timeout == 0:
            await self._end()
            return
        self._wanted = asyncio.Event()
        self._idle_task = asyncio.create_task(self._end_when_idle(process, self._wanted))

    async def _end_when_idle(self, process: ClaudeProcess, wanted: asyncio.Event) -> None:
        """End the process after `idle_timeout`, or when it has exited, unless it is `wanted` before."""
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
            memory.free_unused()

    async def _stop_idling(self) -> None:
        """Stop the timer of `_keep_idle`: afterwards only the caller ends the process."""
        self._wanted.set()
        if self._idle_task is not None:
            # The task is not awaited directly, so that it continues to end the process if this call is cancelled.
            await asyncio.wait({self._idle_task})
            self._idle_task = None

    async def _end(self) -> None:
        await self._stop_idling()
        process, self._process = self._process, None
        if process is not None:
            await process.end()
