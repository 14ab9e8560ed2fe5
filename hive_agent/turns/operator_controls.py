"""The state of the harness for the operator, and the operator's requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hive_agent.backends.base import Failed
from hive_agent.interfaces import ActionNotPossible, Snapshot, TurnSummary
from hive_agent.turns.attempts.operator_pause import OperatorPause
from hive_agent.turns.attempts.runner import TurnStopper
from hive_agent.turns.conversation.conversation import Conversation
from hive_agent.turns.inbox import LeasedInbox
from hive_agent.turns.login import LoginController
from hive_agent.turns.records import TurnRecord
from hive_agent.turns.turn_log import Publish, TurnLog
from hive_core.protocol import Effort, HarnessState, HarnessWork, Profile

_LONGEST_PAGE = 200
_MOST_TOKENS = 2**53
_ENDED_BY_THE_HIVE = frozenset({"budget", "stopped", "provider"})
"""Failures of which the daemon knows when they are over."""


class OperatorControls:
    """Implements `interfaces.Controls`. `running` returns the stopper of the running turn, None if none runs."""

    def __init__(
        self,
        *,
        profile: Profile,
        turn_log: TurnLog,
        conversation: Conversation,
        inbox: LeasedInbox,
        requests: PendingRequests,
        running: Callable[[], TurnStopper | None],
        publish: Publish,
        pause: OperatorPause,
        paused_for: Callable[[], str | None] = lambda: None,
        control_key: Callable[[], str] = lambda: "",
    ) -> None:
        self._profile = profile
        self._turn_log = turn_log
        self._conversation = conversation
        self._inbox = inbox
        self._requests = requests
        self._running = running
        self._publish = publish
        self._pause = pause
        self._paused_for = paused_for
        self.control_key = control_key
        self._login = LoginController(conversation, self.changed)
        self.state: HarnessState = "starting"
        self.detail = ""

    # --- state --------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Publish the current state to viewers of the page."""
        self._publish("snapshot", dict(self.snapshot()))

    def snapshot(self) -> Snapshot:
        backend, choice, now = self._conversation.backend, self._conversation.choice, self._conversation.now
        totals, current = self._turn_log.totals, self._current()
        return Snapshot(
            name=self._profile.name,
            kind=self._profile.kind,
            backend=self._profile.config.backend,
            deployment=self._profile.deployment,
            state=self.state,
            detail=self.detail,
            model=choice.model,
            effort=choice.effort,
            models=list(backend.models),
            warm=backend.warm,
            context=now.context,
            window=now.window,
            turn=current.summary() if current is not None else None,
            activity=self._turn_log.activity,
            held=[record.summary() for record in self._turn_log.held()],
            turns=totals.turns,
            tokens_in=totals.tokens_in,
            tokens_out=totals.tokens_out,
            cost_usd=totals.cost_usd,
            paused=self._pause.on,
            login=self._login.url,
        )

    def work(self) -> HarnessWork:
        """The conversation, as the hive's overview shows it."""
        now, last = self._conversation.now, self._turn_log.last
        return HarnessWork(
            model=(self._conversation.choice.model or "")[:200] or None,
            context=max(0, min(now.context, _MOST_TOKENS)),
            window=max(0, min(now.window, _MOST_TOKENS)),
            last_turn_at=None if last is None else last.ended_at,
        )

    async def history(self, before: int | None, limit: int) -> Sequence[TurnSummary]:
        page = await self._turn_log.page(before, max(0, min(limit, _LONGEST_PAGE)))
        return [record.summary() for record in page]

    async def transcript(self, turn: int) -> Sequence[dict[str, Any]]:
        return await self._turn_log.entries(turn)

    # --- requests -----------------------------------------------------------------------------------------------

    async def cancel(self) -> None:
        stopper = self._running()
        if stopper is None:
            raise ActionNotPossible("No turn is running, so there is nothing to cancel.")
        stopper.stop(Failed("cancelled", "the operator stopped the turn"))

    async def pause(self) -> None:
        self._pause.switch(True)
        self._requests.wake()
        self.changed()

    async def resume(self) -> None:
        if not self._pause.on and self._paused_for() is None:
            raise ActionNotPossible("The agent is not paused, so there is nothing to resume.")
        if self._pause.on:
            self._pause.switch(False)
        self._end_pause()

    async def go_on(self) -> None:
        self.end_refusal()

    def end_refusal(self) -> None:
        """End the pause if it is because the hive has refused calls of the model."""
        if self._paused_for() in _ENDED_BY_THE_HIVE:
            self._end_pause()

    async def retry(self, turn: int) -> None:
        record = self._waiting(turn)
        if record.state == "held":
            freed = self._free_messages(record)
            record.interrupted = 0  # Else it would be held again at the next start.
            await self._turn_log.end(record, "waiting", failure=record.failure, detail=record.detail)
            await self._inbox.release(freed)
        self._requests.first = turn
        self._end_pause()

    async def skip(self, turn: int) -> None:
        record = self._waiting(turn)
        freed = self._free_messages(record)
        await self._turn_log.end(record, "skipped", failure=record.failure, detail=record.detail)
        # They are received again and acknowledged then: only leased messages can be acknowledged.
        await self._inbox.release(freed)
        self._requests.wake()
        self.changed()

    async def compact(self) -> None:
        if self._turn_log.last is None or not self._conversation.now.begun:
            raise ActionNotPossible("There is no conversation yet, so there is nothing to compact.")
        self._requests.compact = True
        self._end_pause()

    async def new_session(self) -> None:
        self._requests.new_session = True
        self._end_pause()

    async def choose(self, model: str | None, effort: Effort | None) -> None:
        if model is not None and not (0 < len(model) <= 200 and model.isprintable()):
            raise ActionNotPossible("A model's name has 1 to 200 characters, all of them printable.")
        self._conversation.choose_model(model, effort)
        self._end_pause()

    async def log_in(self) -> str:
        return await self._login.begin()

    async def give_code(self, code: str) -> None:
        await self._login.submit_code(code)
        self._requests.reopen = True  # A running process still has the old credentials.
        self._end_pause()

    async def close(self) -> None:
        """Cancel a login in progress."""
        await self._login.close()

    def _current(self) -> TurnRecord | None:
        last = self._turn_log.last
        if last is not None and last.state == "running":
            return last
        unfinished = [record for record in self._turn_log.unfinished() if record.state in ("running", "waiting")]
        return min(unfinished, key=lambda record: (record.state != "running", record.id), default=None)

    def _waiting(self, turn: int) -> TurnRecord:
        record = self._turn_log.get(turn)
        if record is None or record.state not in ("waiting", "held"):
            raise ActionNotPossible(f"Turn {turn} waits neither for its next attempt nor for the operator.")
        return record

    def _free_messages(self, record: TurnRecord) -> list[int]:
        """Stop keeping the messages of a held turn; returns those that were kept, which the caller releases."""
        freed = [ref.id for ref in record.messages if ref.id in self._inbox.kept]
        self._inbox.kept.difference_update(freed)
        return freed

    def _end_pause(self) -> None:
        """End the pause after a failure: the request may have removed its cause."""
        self._requests.go_on = True
        self._requests.wake()
        self.changed()


class PendingRequests:
    """Requests of the operator that the turn loop has not handled yet.

    `first` is the turn to be tried next; `go_on` ends the pause after a failure; `reopen` restarts the backend.
    """

    def __init__(self) -> None:
        self.compact = False
        self.new_session = False
        self.reopen = False
        self.go_on = False
        self.first: int | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Wake the turn loop for a new request."""
        self._woken.set()

    def take_wakeup(self) -> bool:
        """Return True if there was a request since the last call. The caller handles all requests made so far."""
        woken = self._woken.is_set()
        self._woken.clear()
        return woken

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for a request for at most `seconds`; returns whether there is one."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True
