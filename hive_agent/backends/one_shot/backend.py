"""A backend that starts its agent CLI for each turn and goes on with the CLI's own conversation.

What differs from CLI to CLI is in its `Cli`: how it is called and how its output is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hive_agent import state_files
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
from hive_agent.backends.cli_session import CliSession, Known
from hive_agent.backends.one_shot.reader import Reading
from hive_agent.backends.one_shot.run import converse
from hive_agent.backends.programs import NoProgram
from hive_agent.backends.tool_permissions import BadConfig
from hive_agent.backends.transcript import Entry, Notice, Session, Tell
from hive_agent.processes import running
from hive_agent.prompts import turn_prompt
from hive_agent.prompts.system_prompt import NOTES

_SHOWN_NOTES = 20_000
"""Bytes of the agent's notes that a new conversation begins with."""


@dataclass(frozen=True)
class Call:
    """How the program is started for one turn; the prompt goes to its stdin."""

    argv: Sequence[str]
    environment: Mapping[str, str]


class Cli(Protocol):
    """One agent CLI."""

    name: str
    models: Sequence[str]

    @property
    def home(self) -> Path:
        """Where its login, conversations and configuration are; kept with the agent."""

    def call(self, choice: Choice, session: str | None) -> Call:
        """Write what the program reads, and say how it is started to go on with `session`, or to begin a new one.

        Raises NoProgram, BadConfig, or OSError.
        """

    def reading(self, known: Known) -> Reading:
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

    def __init__(self, context: BackendContext, cli: Cli) -> None:
        self._state = context.environment.state
        self._messages = self._state / "messages"
        self._temporary = context.environment.temporary
        self._cli = cli
        self._choice = Choice(context.profile.config.model, context.profile.config.effort)
        self._session = CliSession(cli.home / "session.json")

    @property
    def models(self) -> Sequence[str]:
        return self._cli.models

    async def run(self, turn: Turn, tell: Tell) -> TurnOutcome:
        text = turn_prompt.render(turn.deliveries, self._messages)
        outcome = await self._handle(turn_prompt.again(text) if turn.attempt > 1 else text, tell)
        # What came meanwhile goes into the same conversation and turn; the program itself takes nothing more in a run.
        while isinstance(outcome, Ok) and turn.more is not None and (deliveries := await turn.more()):
            outcome = await self._handle(turn_prompt.render(deliveries, self._messages), tell)
        return outcome

    async def compact(self, tell: Tell, focus: str = "") -> TurnOutcome:
        """Begin a new conversation, which gets the agent's notes: these CLIs only shorten one by themselves."""
        if self._session.known.id is not None:
            tell(
                Notice(
                    "info", f"{self._cli.name} cannot be told to shorten a conversation: a new one begins, with {NOTES}"
                )
            )
            self._session.remember(Known(shortened=True))
        return Ok()

    async def new_session(self) -> None:
        self._session.remember(Known())

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

    async def _handle(self, text: str, tell: Tell) -> TurnOutcome:
        """One run of the program, or two: a conversation that is lost is begun anew."""
        outcome = await self._converse(text, tell)
        if outcome is None:
            tell(Notice("warning", f"{self._cli.name} does not have the conversation any more: a new one begins"))
            self._session.remember(Known(shortened=True))
            outcome = await self._converse(text, tell)
        return outcome or Failed("crashed", f"{self._cli.name} does not have the conversation that it has just begun")

    async def _converse(self, text: str, tell: Tell) -> TurnOutcome | None:
        """One run of the program; None if it does not know the conversation."""
        known = self._session.known
        reading = self._cli.reading(known)
        try:
            self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
            call = self._cli.call(self._choice, known.id)
            shown = self._cli.shown(self._with_notes(known, text))
            heard = self._noting(known, reading, tell)
            async with running(call.argv, call.environment, self._state) as process:
                outcome = await converse(process, self._cli.name, shown, reading, heard)
        except NoProgram as error:
            return Failed("no_program", str(error))
        except BadConfig as error:
            return Failed("config", str(error))
        except OSError as error:
            return Failed("no_program", f"{self._cli.name} could not be started: {error}")
        finally:
            self._keep(reading)
        if reading.lost and known.id is not None:
            return None
        if isinstance(outcome, Failed) and not self._cli.logged_in() and outcome.kind in ("refused", "crashed"):
            return NeedsLogin(outcome.detail)
        return outcome

    def _with_notes(self, known: Known, text: str) -> str:
        if known.id is not None or not known.shortened:
            return text
        try:
            notes = b"\n".join(state_files.read(self._state / NOTES, _SHOWN_NOTES)).decode(errors="replace").strip()
        except OSError as error:
            notes = f"(cannot be read: {error})"
        return (
            "Your earlier conversation was given up for its length. What you wrote down before that, in "
            f"{NOTES}:\n\n{notes or '(nothing)'}\n\n(end of {NOTES})\n\n{text}"
        )

    def _noting(self, known: Known, reading: Reading, tell: Tell) -> Tell:
        """`tell`, which also takes note of the conversation as soon as it has a name: the turn may be killed."""

        def noting(entry: Entry) -> None:
            if isinstance(entry, Session):
                entry = Session(entry.id, fresh=entry.id != known.id)
                self._keep(reading)
            tell(entry)

        return noting

    def _keep(self, reading: Reading) -> None:
        if reading.session and not reading.lost:
            known = self._session.known
            self._session.remember(reading.sums(known if known.id == reading.session else Known(id=reading.session)))
