"""A backend that starts an agent CLI for each turn.

The differences between CLIs are in their `CliSpec`: the command line and the reader of the output.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hive_agent.backends.base import (
    BackendContext,
    Choice,
    Failed,
    Login,
    LoginFailed,
    NeedsLogin,
    Ok,
    Turn,
    TurnOutcome,
)
from hive_agent.backends.cli_launch import CliSession, ProgramNotFound, StoredSession, not_started
from hive_agent.backends.one_shot.reader import OutputReader
from hive_agent.backends.one_shot.repeat_limit import RepeatLimit
from hive_agent.backends.tool_permissions import BadConfig
from hive_agent.backends.transcript import Entry, EntrySink, Notice, SessionStarted
from hive_agent.infra import leftovers
from hive_agent.infra.processes import next_line, running
from hive_agent.prompts import turn_prompt
from hive_agent.prompts.system_prompt import NOTES


@dataclass(frozen=True)
class CliCall:
    """The command line, environment and working directory of one turn; the prompt is written to stdin."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path


class CliSpec(Protocol):
    """One agent CLI."""

    name: str
    models: Sequence[str]

    @property
    def home(self) -> Path:
        """The directory of its login, conversations and configuration, which is kept with the agent."""

    @property
    def own_files(self) -> Sequence[Path]:
        """The JSON files that the program writes itself, and may leave half written."""

    def prepare_call(self, choice: Choice, session: str | None) -> CliCall:
        """Write the configuration of the program; returns the call that continues `session` or starts a new one.

        Raises ProgramNotFound, BadConfig, or OSError.
        """

    def new_reader(self, known: StoredSession) -> OutputReader:
        """Create a reader for one turn of the conversation `known`."""

    def escape_prompt(self, prompt: str) -> str:
        """Escape the parts of the prompt that the program would interpret as commands."""

    def check(self, choice: Choice) -> None:
        """Raise ProgramNotFound or BadConfig as `prepare_call` would, without writing anything."""

    def logged_in(self) -> bool:
        """Return whether there are credentials."""

    def can_call(self, choice: Choice) -> bool:
        """Return False if the model cannot be called because credentials for it are missing."""

    @property
    def how_to_log_in(self) -> str:
        """Instructions for the operator: a sentence without its beginning and end, such as "add KEY to ..."."""


class OneShotBackend:
    """A backend that runs one process per turn."""

    def __init__(self, context: BackendContext, cli: CliSpec) -> None:
        self._state = context.environment.state
        self._messages = self._state / "messages"
        self._temporary = context.environment.temporary
        self._cli = cli
        self._choice = Choice(context.profile.config.model, context.profile.config.effort)
        self._session = CliSession(cli.home / "session.json")

    @property
    def models(self) -> Sequence[str]:
        return self._cli.models

    async def run(self, turn: Turn, emit: EntrySink) -> TurnOutcome:
        text = turn_prompt.render(turn.deliveries, self._messages)
        outcome = await self._run_prompt(turn_prompt.render_retry(text) if turn.attempt > 1 else text, emit)
        # The program reads only one prompt, so new messages get a run of their own in the same conversation and turn.
        while isinstance(outcome, Ok) and turn.more is not None and (deliveries := await turn.more()):
            outcome = await self._run_prompt(turn_prompt.render(deliveries, self._messages), emit)
        return outcome

    async def compact(self, emit: EntrySink, focus: str = "") -> TurnOutcome:
        """Start a new conversation with the agent's notes: these CLIs have no command for compaction."""
        if self._session.known.id is not None:
            emit(Notice("info", f"{self._cli.name} has no command for compaction: a new conversation gets {NOTES}"))
            self._session.store(StoredSession(shortened=True))
        return Ok()

    async def new_session(self, *, notes: bool = False) -> None:
        self._session.end(notes=notes)

    async def return_to_session(self) -> None:
        self._session.go_back()

    async def choose(self, choice: Choice) -> None:
        self._choice = choice

    async def log_in(self) -> Login:
        raise LoginFailed(f"{self._cli.name} cannot be logged in from here. Either {self._cli.how_to_log_in}")

    async def logged_in(self) -> bool:
        leftovers.set_damaged_aside(self._cli.own_files)
        return self._cli.logged_in()

    async def find_problem(self) -> Failed | NeedsLogin | None:
        try:
            self._cli.check(self._choice)
        except ProgramNotFound as error:
            return Failed("no_program", str(error))
        except BadConfig as error:
            return Failed("config", str(error))
        if self._cli.can_call(self._choice):
            return None
        return NeedsLogin(f"{self._cli.name} has no key and no login: {self._cli.how_to_log_in}")

    @property
    def warm(self) -> bool:
        return False

    async def close(self) -> None:
        """Nothing is kept open between turns."""

    async def _run_prompt(self, prompt: str, emit: EntrySink) -> TurnOutcome:
        """Run a prompt; if the CLI no longer has the conversation, run it again in a new one."""
        outcome = await self._run_once(prompt, emit)
        if outcome is None:
            emit(Notice("warning", f"{self._cli.name} no longer has the conversation: a new one starts"))
            self._session.store(StoredSession(shortened=True))
            outcome = await self._run_once(prompt, emit)
        return outcome or Failed("crashed", f"{self._cli.name} does not find the conversation that it has just started")

    async def _run_once(self, prompt: str, emit: EntrySink) -> TurnOutcome | None:
        """Run the program once; None if it does not know the conversation."""
        known = self._session.known
        reader = self._cli.new_reader(known)
        try:
            self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
            leftovers.set_damaged_aside(self._cli.own_files)
            call = self._cli.prepare_call(self._choice, known.id)
            begun = known.id is not None or not known.shortened
            escaped = self._cli.escape_prompt(prompt if begun else turn_prompt.render_notes(self._state) + prompt)
            tracking = self._tracking_session(known, reader, emit)
            async with running(call.argv, call.environment, call.directory) as process:
                outcome = await run_process(process, self._cli.name, escaped, reader, tracking)
        except ProgramNotFound as error:
            return Failed("no_program", str(error))
        except BadConfig as error:
            return Failed("config", str(error))
        except OSError as error:
            return not_started(self._cli.name, error)
        finally:
            self._store_session(reader)
        if reader.lost and known.id is not None:
            return None
        if isinstance(outcome, Failed) and not self._cli.logged_in() and outcome.kind in ("refused", "crashed"):
            return NeedsLogin(outcome.detail)
        return outcome

    def _tracking_session(self, known: StoredSession, reader: OutputReader, emit: EntrySink) -> EntrySink:
        """Wrap `emit` so that the id of the conversation is stored at once, in case the turn is killed."""

        def tracking(entry: Entry) -> None:
            if isinstance(entry, SessionStarted):
                entry = SessionStarted(entry.id, fresh=entry.id != known.id)
                self._store_session(reader)
            emit(entry)

        return tracking

    def _store_session(self, reader: OutputReader) -> None:
        if reader.session and not reader.lost:
            known = self._session.known
            self._session.store(
                reader.add_sums(known if known.id == reader.session else StoredSession(id=reader.session))
            )


_FIRST_OUTPUT_SECONDS = 300.0
"""Time limit for the first output of the program, which may wait for the model."""
_EXIT_SECONDS = 15.0
"""Time limit for the exit of the program after its result."""
_STDERR_SECONDS = 0.5
"""Seconds for which stderr is read after the exit, because an orphaned process may hold it open."""
_LONGEST_STDERR_LINE = 100_000


async def run_process(
    process: Process, program: str, prompt: str, reader: OutputReader, emit: EntrySink
) -> TurnOutcome:
    """Write `prompt` to the process of `program`, and emit the entries that `reader` finds in its output.

    The process may still be running when this returns.
    """
    ended = asyncio.Event()
    repeats = RepeatLimit(reader, ended)
    writing = asyncio.create_task(_write_prompt(process, prompt))
    reading_stderr = asyncio.create_task(_read_stderr(process, reader, emit, ended, repeats))
    try:
        hung = await _read_events(process, program, reader, emit, ended, repeats)
        if hung is not None:
            return hung
        exit_code = None if reader.verdict is not None else await _exit_code(process)
        await asyncio.wait({reading_stderr}, timeout=_STDERR_SECONDS)
        return reader.verdict or reader.outcome(exit_code)
    finally:
        repeats.cancel()
        writing.cancel()
        reading_stderr.cancel()
        await asyncio.gather(writing, reading_stderr, return_exceptions=True)


async def _read_events(
    process: Process,
    program: str,
    reader: OutputReader,
    emit: EntrySink,
    ended: asyncio.Event,
    repeats: RepeatLimit,
) -> Failed | None:
    """Read until the output ends, the reader has a verdict, or no more is expected; Failed if there is no output."""
    alarm = asyncio.create_task(ended.wait())
    try:
        while reader.verdict is None:
            silence = _EXIT_SECONDS if reader.settled else None if reader.session else _FIRST_OUTPUT_SECONDS
            line = asyncio.create_task(next_line(process))
            try:
                done, _ = await asyncio.wait({line, alarm}, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
            finally:
                line.cancel()  # no effect if it is done
            if line not in done:
                if done or reader.settled:
                    return None
                if repeats.give_up():
                    return None
                return Failed("hung", f"{program} produced no output for {_FIRST_OUTPUT_SECONDS:g} s after its start")
            read = line.result()
            if read is None:
                return None
            named = reader.session
            entries = reader.feed(read)
            if reader.session != named:
                emit(SessionStarted(reader.session, fresh=True))
            repeats.cancel()
            for entry in entries:
                emit(entry)
                repeats.note(entry)
        return None
    finally:
        alarm.cancel()


async def _write_prompt(process: Process, prompt: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):  # it exited early; the exit code says why
            process.stdin.write(prompt.encode())
            await process.stdin.drain()
        process.stdin.close()


async def _read_stderr(
    process: Process, reader: OutputReader, emit: EntrySink, ended: asyncio.Event, repeats: RepeatLimit
) -> None:
    """Read stderr; sets `ended` if the reader has a verdict from it."""
    rest = b""
    while process.stderr is not None and (piece := await process.stderr.read(65_536)):
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[-_LONGEST_STDERR_LINE:]
        for line in whole:
            for entry in reader.feed_stderr(line.decode(errors="replace")):
                emit(entry)
                repeats.note(entry)
        if reader.verdict is not None:
            ended.set()
    if rest:
        reader.feed_stderr(rest.decode(errors="replace"))


async def _exit_code(process: Process) -> int | None:
    """Wait for the exit of the program; None if it does not exit in time."""
    try:
        async with asyncio.timeout(_EXIT_SECONDS):
            return await process.wait()
    except TimeoutError:
        return process.returncode
