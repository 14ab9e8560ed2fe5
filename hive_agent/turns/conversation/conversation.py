"""The backend and its conversation: compaction, notes, and the operator's choices, which are kept over restarts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from hive_agent.backends.base import Backend, Choice, Failed, Login, LoginFailed, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import Entry, EntrySink, Notice, SessionStarted, TokenUsage
from hive_agent.infra import log as harness_log
from hive_agent.turns.attempts.runner import TurnStopper, run_guarded, run_turn
from hive_agent.turns.conversation.own_turns import check_turn, notes_turn
from hive_agent.turns.conversation.state import ConversationState, ConversationStateFile, bounded_tokens
from hive_core.protocol import Effort, Profile

log = logging.getLogger(__name__)


_FULL = 0.8
"""Share of the model's window above which the conversation is compacted before the next turn."""
_OWN_TURN_SECONDS = 300.0
_OWN_TURN_STEPS = 20
_REQUEST_SECONDS = 60.0
"""Time limit of a call of the backend outside turns, such as for a new conversation."""


KeepLeases = Callable[[], Coroutine[Any, Any, None]]


class Conversation:
    """One backend, reopened after some failures. Calls that use it run one after another."""

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
        """The choice that the backend uses now."""
        self._compacted = False
        """No turn has run since the conversation was compacted."""

    # --- state ----------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def has_model(self) -> bool:
        """True if the texts of turns are those of a model, so that they can be answers."""
        return self._profile.config.backend != "scripted"

    @property
    def now(self) -> ConversationState:
        return self._state_file.now

    @property
    def choice(self) -> Choice:
        """The model and effort for turns: the operator's choice, else the values of agent.toml."""
        config, now = self._profile.config, self.now
        return Choice(now.model or config.model, now.effort or config.effort)

    @property
    def full(self) -> bool:
        """True if the conversation should be compacted before the next turn."""
        now = self.now
        return not self._compacted and now.window > 0 and now.context >= _FULL * now.window

    # --- actions --------------------------------------------------------------------------------------------

    async def run(self, turn: Turn, emit: EntrySink, keep_leases: KeepLeases, stopper: TurnStopper) -> TurnOutcome:
        """Run one attempt of a turn, within the limits of agent.toml."""
        config = self._profile.config
        async with self._working():
            await self._apply_choice()
            outcome = await run_turn(
                self._backend,
                turn,
                self._tracking_context(emit),
                keep_leases(),
                config.turn_timeout,
                max_steps=config.max_steps,
                stopper=stopper,
            )
        self._compacted = False
        self._state_file.save()
        self._changed()
        return self._clean(outcome)

    async def compact(self, emit: EntrySink, keep_leases: KeepLeases, *, notes: bool) -> TurnOutcome:
        """Compact the conversation; with `notes` the agent first gets a turn in which it writes its notes."""
        limit = self._profile.config.turn_timeout
        tracking = self._tracking_context(emit)
        async with self._working():
            await self._apply_choice()
            if notes:
                emit(Notice("info", "the agent is asked to write its notes before the conversation is compacted"))
                written = await run_turn(
                    self._backend,
                    notes_turn(self._profile.name),
                    tracking,
                    keep_leases(),
                    min(limit, _OWN_TURN_SECONDS),
                    max_steps=_OWN_TURN_STEPS,
                )
                if not isinstance(written, Ok):
                    log.warning("the agent did not write its notes: %s", written.detail)
                    emit(Notice("warning", f"the notes were not written: {written.detail}"))
            before = self.now.context
            outcome = await run_guarded(self._backend.compact(tracking), keep_leases(), limit, TurnStopper())
        self._compacted = True
        if isinstance(outcome, Ok):
            if self.now.context == before:
                self.now.context = 0  # The backend did not report the new size; the next turn does.
            emit(Notice("info", "the conversation was compacted"))
        else:
            log.warning("the conversation was not compacted: %s", outcome.detail)
            emit(Notice("error", f"the conversation was not compacted: {outcome.detail}"))
        self._state_file.save()
        self._changed()
        return self._clean(outcome)

    async def check(self, emit: EntrySink, keep_leases: KeepLeases) -> TurnOutcome:
        """Run a turn that asks the model for nothing, which shows whether the conversation can go on."""
        async with self._working():
            await self._apply_choice()
            outcome = await run_turn(
                self._backend,
                check_turn(self._profile.name),
                self._tracking_context(emit),
                keep_leases(),
                min(self._profile.config.turn_timeout, _OWN_TURN_SECONDS),
                max_steps=_OWN_TURN_STEPS,
            )
        self._state_file.save()
        return self._clean(outcome)

    async def start_new_session(self, *, notes: bool = False) -> None:
        """Start a new conversation; with `notes` its first prompt contains the agent's notes."""
        if await self._call_backend("start a new conversation", lambda: self._backend.new_session(notes=notes)):
            self._session_changed(0, begun=False)

    async def return_to_session(self) -> None:
        """Go back to the conversation from before the last `start_new_session`."""
        if await self._call_backend("go back to its conversation", self._backend.return_to_session):
            self._session_changed(0, begun=True)

    def _session_changed(self, context: int, *, begun: bool) -> None:
        self.now.context, self.now.begun = context, begun
        self._state_file.save()
        self._changed()

    def choose_model(self, model: str | None, effort: Effort | None) -> None:
        """Use this model and effort from the next turn on; None stands for the value of agent.toml."""
        self.now.model, self.now.effort = model, effort
        self._state_file.save()
        self._changed()

    async def reopen(self) -> None:
        """Close the backend, with all processes that it runs, and open it again."""
        async with self._busy:
            await self.close()
            try:
                self._backend = self._open_backend(self._profile)
            except Exception as error:  # the old one stays in use: its next turn fails with the reason
                log.error("the backend could not be reopened: %s", harness_log.where(error))
                return
            self._chosen = Choice(self._profile.config.model, self._profile.config.effort)
        self._changed()

    async def logged_in(self) -> bool:
        """Return True if the backend has credentials; False also if that cannot be determined."""
        found = False

        async def check() -> None:
            nonlocal found
            found = await self._backend.logged_in()

        return await self._call_backend("check its credentials", check) and found

    async def find_problem(self) -> Failed | NeedsLogin | None:
        """Return what keeps every turn from working now, None if nothing is known to."""
        found: Failed | NeedsLogin | None = None

        async def check() -> None:
            nonlocal found
            found = await self._backend.find_problem()

        await self._apply_choice()
        await self._call_backend("check whether it can work", check)
        return None if found is None else self._clean_problem(found)

    async def log_in(self) -> Login:
        """Start a login. Raises LoginFailed."""
        if (provider := self._profile.config.provider) is not None:
            raise LoginFailed(
                f"{self._profile.name} calls its model through the hive, with the key of the provider {provider}:"
                " there is nothing to log in to."
            )
        async with self._busy:
            return await self._backend.log_in()

    @property
    def busy(self) -> bool:
        """True if the backend runs a turn or a compaction, which may take long."""
        return self._at_work

    async def close(self) -> None:
        """Close the backend and end all processes that it runs."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._backend.close()
        except Exception as error:
            log.error("closing the backend failed: %s", harness_log.where(error))

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        async with self._busy:
            self._at_work = True
            try:
                yield
            finally:
                self._at_work = False

    def _tracking_context(self, emit: EntrySink) -> EntrySink:
        """Wrap `emit` so that the size of the conversation is recorded, too."""

        def tracking(entry: Entry) -> None:
            now = self.now
            if isinstance(entry, TokenUsage):
                now.begun = True
                now.context, now.window = bounded_tokens(entry.context), bounded_tokens(entry.window) or now.window
            elif isinstance(entry, SessionStarted):
                now.begun = True
                if entry.fresh:
                    now.context = 0
            emit(entry)

        return tracking

    async def _apply_choice(self) -> None:
        if self.choice == self._chosen:
            return
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._backend.choose(self.choice)
            self._chosen = self.choice
        except Exception as error:
            log.error("the backend could not change the model: %s", harness_log.where(error))

    async def _call_backend(self, action: str, call: Callable[[], Awaitable[None]]) -> bool:
        """Call the backend outside a turn; False if it fails or takes too long."""
        async with self._busy:
            try:
                async with asyncio.timeout(_REQUEST_SECONDS):
                    await call()
            except Exception as error:
                log.error("the backend did not %s: %s", action, harness_log.where(error))
                return False
        return True

    def _clean(self, outcome: TurnOutcome) -> TurnOutcome:
        return outcome if isinstance(outcome, Ok) else self._clean_problem(outcome)

    def _clean_problem(self, outcome: Failed | NeedsLogin) -> Failed | NeedsLogin:
        """Make the detail valid UTF-8: the output of a model may contain lone surrogates.

        An agent whose model is called through the relay has nothing to log in to.
        """
        detail = outcome.detail.encode(errors="replace").decode()
        provider = self._profile.config.provider
        if isinstance(outcome, NeedsLogin) and provider is not None:
            return Failed("provider", f"calls of {provider} are refused, whose key is the operator's: {detail}")
        return replace(outcome, detail=detail)
