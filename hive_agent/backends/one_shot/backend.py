"""A backend that starts an agent CLI for each turn.

What differs from CLI to CLI is in its `CliSpec`: how it is called and how its output is read.
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
from hive_agent.backends.cli_launch import CliSession, ProgramNotFound, StoredSession
from hive_agent.backends.one_shot.reader import OutputReader
from hive_agent.backends.tool_permissions import BadConfig
from hive_agent.backends.transcript import Entry, EntrySink, Notice, SessionStarted
from hive_agent.infra import state_files
from hive_agent.infra.processes import next_line, running
from hive_agent.prompts import turn_prompt
from hive_agent.prompts.system_prompt import NOTES

_SHOWN_NOTES = 20_000
"""Bytes of the agent's notes that a new conversation begins with."""


@dataclass(frozen=True)
class CliCall:
    """How the program is started for one turn; the prompt goes to its stdin."""

    argv: Sequence[str]
    environment: Mapping[str, str]


class CliSpec(Protocol):
    """One agent CLI."""

    name: str
    models: Sequence[str]

    @property
    def home(self) -> Path:
        """Where its login, conversations and configuration are; kept with the agent."""

    def call(self, choice: Choice, session: str | None) -> CliCall:
        """Write what the program reads, and say how it is started to go on with `session`, or to begin a new one.

        Raises ProgramNotFound, BadConfig, or OSError.
        """

    def new_reader(self, known: StoredSession) -> OutputReader:
        """A reader for one turn of the conversation that is `known`."""

    def shown(self, prompt: str) -> str:
        """The prompt, so that the program takes nothing in it for a command of its own."""

    def logged_in(self) -> bool:
        """Whether there are credentials."""

    @property
    def how_to_log_in(self) -> str:
        """For people."""


class OneShotBackend:
    """The contract of a backend, kept with one process per turn."""

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

    async def run(self, turn: Turn, tell: EntrySink) -> TurnOutcome:
        text = turn_prompt.render(turn.deliveries, self._messages)
        outcome = await self._handle(turn_prompt.again(text) if turn.attempt > 1 else text, tell)
        # What came meanwhile goes into the same conversation and turn; the program itself takes nothing more in a run.
        while isinstance(outcome, Ok) and turn.more is not None and (deliveries := await turn.more()):
            outcome = await self._handle(turn_prompt.render(deliveries, self._messages), tell)
        return outcome

    async def compact(self, tell: EntrySink, focus: str = "") -> TurnOutcome:
        """Begin a new conversation, which gets the agent's notes: these CLIs only shorten one by themselves."""
        if self._session.known.id is not None:
            tell(
                Notice(
                    "info", f"{self._cli.name} cannot be told to shorten a conversation: a new one begins, with {NOTES}"
                )
            )
            self._session.remember(StoredSession(shortened=True))
        return Ok()

    async def new_session(self) -> None:
        self._session.remember(StoredSession())

    async def choose(self, choice: Choice) -> None:
        self._choice = choice

    async def log_in(self) -> Login:
        raise LoginFailed(self._cli.how_to_log_in)

    async def logged_in(self) -> bool:
        return self._cli.logged_in()

    @property
    def warm(self) -> bool:
        return False

    async def close(self) -> None:
        """Nothing is kept open between turns."""

    async def _handle(self, text: str, tell: EntrySink) -> TurnOutcome:
        """One run of the program, or two: a conversation that is lost is begun anew."""
        outcome = await self._converse(text, tell)
        if outcome is None:
            tell(Notice("warning", f"{self._cli.name} does not have the conversation any more: a new one begins"))
            self._session.remember(StoredSession(shortened=True))
            outcome = await self._converse(text, tell)
        return outcome or Failed("crashed", f"{self._cli.name} does not have the conversation that it has just begun")

    async def _converse(self, text: str, tell: EntrySink) -> TurnOutcome | None:
        """One run of the program; None if it does not know the conversation."""
        known = self._session.known
        reader = self._cli.new_reader(known)
        try:
            self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
            call = self._cli.call(self._choice, known.id)
            shown = self._cli.shown(self._with_notes(known, text))
            heard = self._noting(known, reader, tell)
            async with running(call.argv, call.environment, self._state) as process:
                outcome = await converse(process, self._cli.name, shown, reader, heard)
        except ProgramNotFound as error:
            return Failed("no_program", str(error))
        except BadConfig as error:
            return Failed("config", str(error))
        except OSError as error:
            return Failed("no_program", f"{self._cli.name} could not be started: {error}")
        finally:
            self._keep(reader)
        if reader.lost and known.id is not None:
            return None
        if isinstance(outcome, Failed) and not self._cli.logged_in() and outcome.kind in ("refused", "crashed"):
            return NeedsLogin(outcome.detail)
        return outcome

    def _with_notes(self, known: StoredSession, text: str) -> str:
        if known.id is not None or not known.shortened:
            return text
        try:
            notes = (
                b"\n".join(state_files.read_lines(self._state / NOTES, _SHOWN_NOTES)).decode(errors="replace").strip()
            )
        except OSError as error:
            notes = f"(cannot be read: {error})"
        return (
            "Your earlier conversation was given up for its length. What you wrote down before that, in "
            f"{NOTES}:\n\n{notes or '(nothing)'}\n\n(end of {NOTES})\n\n{text}"
        )

    def _noting(self, known: StoredSession, reader: OutputReader, tell: EntrySink) -> EntrySink:
        """`tell`, which also takes note of the conversation as soon as it has a name: the turn may be killed."""

        def noting(entry: Entry) -> None:
            if isinstance(entry, SessionStarted):
                entry = SessionStarted(entry.id, fresh=entry.id != known.id)
                self._keep(reader)
            tell(entry)

        return noting

    def _keep(self, reader: OutputReader) -> None:
        if reader.session and not reader.lost:
            known = self._session.known
            self._session.remember(
                reader.sums(known if known.id == reader.session else StoredSession(id=reader.session))
            )


_FIRST_WORD_SECONDS = 300.0
"""How long the program may be silent at its start: it may be waiting for a model that thinks."""
_LEAVE_SECONDS = 15.0
"""How long the program may take to end after its result."""
_LAST_WORDS_SECONDS = 0.5
"""How long stderr is read after the end: a process left behind may hold it open."""
_LONGEST_COMPLAINT = 100_000


async def converse(process: Process, program: str, text: str, reader: OutputReader, tell: EntrySink) -> TurnOutcome:
    """Give `text` to the process, which is called `program`, and tell what `reader` makes of its output.

    The process may still run afterwards, where nothing more was to be expected of it.
    """
    ended = asyncio.Event()
    giving = asyncio.create_task(_give(process, text))
    listening = asyncio.create_task(_listen(process, reader, tell, ended))
    try:
        hung = await _read(process, program, reader, tell, ended)
        if hung is not None:
            return hung
        exit_code = None if reader.verdict is not None else await _exit_code(process)
        await asyncio.wait({listening}, timeout=_LAST_WORDS_SECONDS)
        return reader.verdict or reader.outcome(exit_code)
    finally:
        giving.cancel()
        listening.cancel()
        await asyncio.gather(giving, listening, return_exceptions=True)


async def _read(
    process: Process, program: str, reader: OutputReader, tell: EntrySink, ended: asyncio.Event
) -> Failed | None:
    """Until the output ends, there is a verdict, or nothing more is to be expected; a failure if nothing ever came."""
    alarm = asyncio.create_task(ended.wait())
    try:
        while reader.verdict is None:
            silence = _LEAVE_SECONDS if reader.settled else None if reader.session else _FIRST_WORD_SECONDS
            line = asyncio.create_task(next_line(process))
            try:
                done, _ = await asyncio.wait({line, alarm}, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
            finally:
                line.cancel()  # without effect on one that is done
            if line not in done:
                if done or reader.settled:
                    return None
                return Failed("hung", f"{program} said nothing for {_FIRST_WORD_SECONDS:g} s after its start")
            read = line.result()
            if read is None:
                return None
            named = reader.session
            entries = reader.feed(read)
            if reader.session != named:
                tell(SessionStarted(reader.session, fresh=True))
            for entry in entries:
                tell(entry)
        return None
    finally:
        alarm.cancel()


async def _give(process: Process, text: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):  # it ended early; its exit tells why
            process.stdin.write(text.encode())
            await process.stdin.drain()
        process.stdin.close()


async def _listen(process: Process, reader: OutputReader, tell: EntrySink, ended: asyncio.Event) -> None:
    """Read stderr; `ended` is set if what it says is a verdict."""
    rest = b""
    while process.stderr is not None and (piece := await process.stderr.read(65_536)):
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[-_LONGEST_COMPLAINT:]
        for line in whole:
            for entry in reader.complain(line.decode(errors="replace")):
                tell(entry)
        if reader.verdict is not None:
            ended.set()
    if rest:
        reader.complain(rest.decode(errors="replace"))


async def _exit_code(process: Process) -> int | None:
    """How the program ended; None if it goes on after its result."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            return await process.wait()
    except TimeoutError:
        return process.returncode
