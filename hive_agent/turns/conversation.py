"""The backend and its conversation: compaction, notes, and the choices that outlive a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from hive_agent.backends.base import Backend, Choice, Login, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import Entry, EntrySink, Notice, SessionStarted, TokenUsage
from hive_agent.infra import log as harness_log
from hive_agent.infra import state_files
from hive_agent.prompts.system_prompt import NOTES
from hive_agent.turns.runner import TurnStopper, guarded, run_turn
from hive_core.protocol import Backend as BackendName
from hive_core.protocol import Delivery, Effort, Profile
from hive_core.protocol.names import SYSTEM

log = logging.getLogger(__name__)


_FULL = 0.8
"""Of the model's window; a conversation that fills more is shortened before it does not fit any more."""
_NOTES_SECONDS = 300.0
_NOTES_STEPS = 20
_REQUEST_SECONDS = 60.0
"""For what a backend is asked beside turns, such as to begin a new conversation."""


KeepLeases = Callable[[], Coroutine[Any, Any, None]]


class Conversation:
    """One backend, opened anew where that may help. Everything that uses it waits for what uses it before."""

    def __init__(
        self,
        profile: Profile,
        open_backend: Callable[[Profile], Backend],
        state_file: ConversationStateFile,
        changed: Callable[[], object],
    ) -> None:
        self._profile = profile
        self._open_backend = open_backend
        self._state_file = state_file
        self._changed = changed
        self._backend = open_backend(profile)
        self._busy = asyncio.Lock()
        self._at_work = False
        self._chosen = Choice(profile.config.model, profile.config.effort)
        """What the backend was opened or told with."""
        self._shortened = False
        """Nothing has been said since the conversation was shortened."""

    # --- how it stands --------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def now(self) -> ConversationState:
        return self._state_file.now

    @property
    def choice(self) -> Choice:
        """What turns are asked with: a person's choice, or what agent.toml says."""
        config, now = self._profile.config, self.now
        return Choice(now.model or config.model, now.effort or config.effort)

    @property
    def full(self) -> bool:
        """Whether it should be shortened before the next turn."""
        now = self.now
        return not self._shortened and now.window > 0 and now.context >= _FULL * now.window

    # --- what is asked of it --------------------------------------------------------------------------------

    async def run(self, turn: Turn, tell: EntrySink, keep_leases: KeepLeases, stopper: TurnStopper) -> TurnOutcome:
        """One attempt of a turn, within the limits of agent.toml."""
        config = self._profile.config
        async with self._working():
            await self._say_choice()
            outcome = await run_turn(
                self._backend,
                turn,
                self._listening(tell),
                keep_leases(),
                config.turn_timeout,
                max_steps=config.max_steps,
                stopper=stopper,
            )
        self._shortened = False
        self._state_file.save()
        self._changed()
        return _clean(outcome)

    async def shorten(self, tell: EntrySink, keep_leases: KeepLeases, *, notes: bool) -> TurnOutcome:
        """Shorten it; with `notes` the agent gets a turn before, to write down what it will need."""
        limit = self._profile.config.turn_timeout
        heard = self._listening(tell)
        async with self._working():
            await self._say_choice()
            if notes:
                tell(
                    Notice("info", "the agent is told to write down what matters, before the conversation is shortened")
                )
                written = await run_turn(
                    self._backend,
                    notes_turn(self._profile.name),
                    heard,
                    keep_leases(),
                    min(limit, _NOTES_SECONDS),
                    max_steps=_NOTES_STEPS,
                )
                if not isinstance(written, Ok):
                    log.warning("the agent did not write its notes: %s", written.detail)
                    tell(Notice("warning", f"the notes were not written: {written.detail}"))
            before = self.now.context
            outcome = await guarded(self._backend.compact(heard), keep_leases(), limit, TurnStopper())
        self._shortened = True
        if isinstance(outcome, Ok):
            if self.now.context == before:
                self.now.context = 0  # Not told; the next turn will.
            tell(Notice("info", "the conversation was shortened"))
        else:
            log.warning("the conversation was not shortened: %s", outcome.detail)
            tell(Notice("error", f"the conversation was not shortened: {outcome.detail}"))
        self._state_file.save()
        self._changed()
        return _clean(outcome)

    async def begin_anew(self) -> None:
        """Forget the conversation."""
        if await self._asked("begin a new conversation", self._backend.new_session):
            self.now.context, self.now.begun = 0, False
            self._state_file.save()
            self._changed()

    def choose(self, model: str | None, effort: Effort | None) -> None:
        """From the next turn on; None is what agent.toml says."""
        self.now.model, self.now.effort = model, effort
        self._state_file.save()
        self._changed()

    async def reopen(self) -> None:
        """Close the backend, with all that it has running, and open it again."""
        async with self._busy:
            await self.close()
            try:
                self._backend = self._open_backend(self._profile)
            except Exception as error:  # the one of before is asked again: its turn will say what is wrong
                log.error("the backend could not be opened again: %s", harness_log.where(error))
                return
            self._chosen = Choice(self._profile.config.model, self._profile.config.effort)
        self._changed()

    async def logged_in(self) -> bool:
        """Whether the backend has credentials; False if it cannot be told."""
        found = False

        async def look() -> None:
            nonlocal found
            found = await self._backend.logged_in()

        return await self._asked("say whether it is logged in", look) and found

    async def log_in(self) -> Login:
        """Begin a login. Raises LoginFailed."""
        async with self._busy:
            return await self._backend.log_in()

    @property
    def busy(self) -> bool:
        """Whether the backend is at something that may take long: a turn, or a compaction."""
        return self._at_work

    async def close(self) -> None:
        """End everything that the backend has running."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._backend.close()
        except Exception as error:
            log.error("the backend did not close well: %s", harness_log.where(error))

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        async with self._busy:
            self._at_work = True
            try:
                yield
            finally:
                self._at_work = False

    def _listening(self, tell: EntrySink) -> EntrySink:
        """`tell`, which also takes note of how full the conversation is."""

        def heard(entry: Entry) -> None:
            now = self.now
            if isinstance(entry, TokenUsage):
                now.begun = True
                now.context, now.window = _tokens(entry.context), _tokens(entry.window) or now.window
            elif isinstance(entry, SessionStarted):
                now.begun = True
                if entry.fresh:
                    now.context = 0
            tell(entry)

        return heard

    async def _say_choice(self) -> None:
        if self.choice == self._chosen:
            return
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._backend.choose(self.choice)
            self._chosen = self.choice
        except Exception as error:
            log.error("the backend did not take the choice of a model: %s", harness_log.where(error))

    async def _asked(self, what: str, ask: Callable[[], Awaitable[None]]) -> bool:
        """Whether the backend did it in time."""
        async with self._busy:
            try:
                async with asyncio.timeout(_REQUEST_SECONDS):
                    await ask()
            except Exception as error:
                log.error("the backend did not %s: %s", what, harness_log.where(error))
                return False
        return True


def _tokens(told: int) -> int:
    """What a program told, as a number that can be kept."""
    return max(0, min(told, MOST_TOKENS))


def _clean(outcome: TurnOutcome) -> TurnOutcome:
    """With a detail that can be written as UTF-8: a model's words may hold half a character."""
    if isinstance(outcome, Ok):
        return outcome
    return replace(outcome, detail=outcome.detail.encode(errors="replace").decode())


def notes_turn(name: str) -> Turn:
    """A turn with one message of the harness's own, for the agent `name`; the hive knows nothing of it."""
    text = (
        "Your conversation is about to be shortened: of all that was said in it only a summary stays. "
        f"Write into {NOTES} in your working directory now what you will need and cannot find elsewhere: what you were "
        "asked for and by whom (with message numbers that are still to be answered), what is done, what is next, what "
        "you found out. Remove from it what is out of date. Do nothing else in this turn, send nothing and fetch no "
        "messages; then end it."
    )
    delivery = Delivery(
        id=0, sender=SYSTEM, to=name, body=text, sent_at=datetime.now(UTC), attempt=1, redelivered=False
    )
    return Turn((delivery,))


MOST_TOKENS = 2**53


class ConversationState(BaseModel):
    """`model` and `effort` are a person's choices, and only for `backend`.

    `context` is how much of the model's `window` (0: not known) the conversation fills, in tokens. `begun`: there is a
    conversation.
    """

    backend: BackendName
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    effort: Effort | None = None
    context: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0
    window: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0
    begun: bool = False


class ConversationStateFile:
    """What is remembered now, and the file that keeps it."""

    def __init__(self, path: Path, backend: BackendName) -> None:
        self._path = path
        found = state_files.load_model(path, ConversationState)
        self.now = found if found is not None and found.backend == backend else ConversationState(backend=backend)

    def save(self) -> None:
        """Write `now`. If that fails, a restart forgets, and that is all."""
        state_files.save_model(self._path, self.now)
