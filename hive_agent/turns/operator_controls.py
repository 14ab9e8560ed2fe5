"""The state that the operator sees, and the requests that the operator makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hive_agent.backends.base import Failed
from hive_agent.interfaces import ActionNotPossible, Snapshot, TurnSummary
from hive_agent.turns.conversation import Conversation
from hive_agent.turns.inbox import LeasedInbox
from hive_agent.turns.login import LoginController
from hive_agent.turns.records import TurnRecord
from hive_agent.turns.runner import TurnStopper
from hive_agent.turns.turn_log import Publish, TurnLog
from hive_core.protocol import Effort, HarnessState, Profile

_LONGEST_PAGE = 200


class OperatorControls:
    """Implements `interfaces.Controls`. `running` gives what stops the turn that runs, None if none does."""

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
    ) -> None:
        self._profile = profile
        self._turn_log = turn_log
        self._conversation = conversation
        self._inbox = inbox
        self._requests = requests
        self._running = running
        self._publish = publish
        self._login = LoginController(conversation, self.changed)
        self.state: HarnessState = "starting"
        self.detail = ""

    # --- seeing -------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Tell those who watch how things stand now."""
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
            held=[record.summary() for record in self._turn_log.held()],
            turns=totals.turns,
            tokens_in=totals.tokens_in,
            tokens_out=totals.tokens_out,
            cost_usd=totals.cost_usd,
            login=self._login.url,
        )

    async def history(self, before: int | None, limit: int) -> Sequence[TurnSummary]:
        page = await self._turn_log.page(before, max(0, min(limit, _LONGEST_PAGE)))
        return [record.summary() for record in page]

    async def transcript(self, turn: int) -> Sequence[dict[str, Any]]:
        return await self._turn_log.entries(turn)

    # --- steering -----------------------------------------------------------------------------------------------

    async def cancel(self) -> None:
        stopper = self._running()
        if stopper is None:
            raise ActionNotPossible("No turn is running, so there is nothing to cancel.")
        stopper.stop(Failed("cancelled", "a person stopped the turn"))

    async def retry(self, turn: int) -> None:
        record = self._waiting(turn)
        if record.state == "held":
            freed = self._freed(record)
            await self._turn_log.end(record, "waiting", failure=record.failure, detail=record.detail)
            await self._inbox.release(freed)
        self._requests.first = turn
        self._go_on()

    async def skip(self, turn: int) -> None:
        record = self._waiting(turn)
        freed = self._freed(record)
        await self._turn_log.end(record, "skipped", failure=record.failure, detail=record.detail)
        # They come again, and are acknowledged then: without a lease that cannot be done.
        await self._inbox.release(freed)
        self._requests.wake()
        self.changed()

    async def compact(self) -> None:
        if self._turn_log.last is None or not self._conversation.now.begun:
            raise ActionNotPossible("There is no conversation yet, so there is nothing to shorten.")
        self._requests.compact = True
        self._go_on()

    async def new_session(self) -> None:
        self._requests.new_session = True
        self._go_on()

    async def choose(self, model: str | None, effort: Effort | None) -> None:
        if model is not None and not (0 < len(model) <= 200 and model.isprintable()):
            raise ActionNotPossible("A model's name has 1 to 200 characters, all of them printable.")
        self._conversation.choose(model, effort)
        self._go_on()

    async def log_in(self) -> str:
        return await self._login.begin()

    async def give_code(self, code: str) -> None:
        await self._login.give(code)
        self._requests.reopen = True  # What runs still has the credentials of before.
        self._go_on()

    async def close(self) -> None:
        """End a login that is under way."""
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
            raise ActionNotPossible(f"Turn {turn} neither waits for its next try nor for a person.")
        return record

    def _freed(self, record: TurnRecord) -> list[int]:
        """Keep the messages of a held turn no more, which goes on at the same moment; those that were kept."""
        freed = [ref.id for ref in record.messages if ref.id in self._inbox.kept]
        self._inbox.kept.difference_update(freed)
        return freed

    def _go_on(self) -> None:
        """What a person asked for may help: do not wait any longer."""
        self._requests.go_on = True
        self._requests.wake()
        self.changed()


class PendingRequests:
    """`first` is the turn to be tried next; `go_on`: do not wait any longer after a failure; `reopen`: start the
    backend anew.
    """

    def __init__(self) -> None:
        self.compact = False
        self.new_session = False
        self.reopen = False
        self.go_on = False
        self.first: int | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something new to look at."""
        self._woken.set()

    def looked(self) -> bool:
        """All that was wished for so far is seen to from here on; whether there was something new."""
        woken = self._woken.is_set()
        self._woken.clear()
        return woken

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for something new, at most so long; whether there is."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True
