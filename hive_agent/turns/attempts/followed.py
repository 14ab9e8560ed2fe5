"""An attempt of a turn that the harness follows by its entries, to judge its outcome and to send its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from hive_agent.backends.base import Failed, Ok, TurnOutcome
from hive_agent.backends.transcript import Entry, EntrySink
from hive_agent.client.core_client import CoreClient
from hive_agent.turns.attempts.answers import OwedAnswers, send_answers
from hive_agent.turns.attempts.runner import TurnStopper, run_guarded
from hive_agent.turns.attempts.tool_calls import LostCalls
from hive_core.protocol import Delivery

_SENDING_SECONDS = 6 * 3_600.0
"""Time limit for sending the answers, which the hive may refuse for lack of room; then the turn is tried again."""
Fetch = Callable[[], Awaitable[Sequence[Delivery]]]
KeepLeases = Callable[[], Coroutine[Any, Any, None]]


class FollowedAttempt:
    """One attempt. With `answers` the model's last text is sent to an operator who has got no other answer."""

    def __init__(self, deliveries: Sequence[Delivery], emit: EntrySink, *, answers: bool) -> None:
        self.answers = OwedAnswers(deliveries)
        self._lost = LostCalls()
        self._emit = emit
        self._sends_answers = answers

    def record(self, entry: Entry) -> None:
        """Read an entry of the transcript, and pass it on."""
        self._lost.record(entry)
        self.answers.record(entry)
        self._emit(entry)

    def fetching(self, fetch: Fetch) -> Fetch:
        """Wrap the `Turn.more` of the attempt, so that it is known which texts came before which messages."""

        async def fetched() -> Sequence[Delivery]:
            deliveries = await fetch()
            if deliveries:
                self.answers.add(deliveries)
            return deliveries

        return fetched

    async def finish(
        self, outcome: TurnOutcome, client: CoreClient, keep_leases: KeepLeases, stopper: TurnStopper
    ) -> TurnOutcome:
        """Send the answers of an attempt that has ended well; returns the outcome, with regard to lost tool calls.

        The answers are on the daemon's disk before the messages are acknowledged. While the hive has no room for them,
        the leases are kept, and the operator can stop the turn.
        """
        if not isinstance(outcome, Ok):
            return outcome
        if self._lost.reason:
            return Failed("lost_tools", self._lost.reason)
        if self._sends_answers and (owed := self.answers.owed()):
            return await run_guarded(self._send(client, owed), keep_leases(), _SENDING_SECONDS, stopper)
        return outcome

    async def _send(self, client: CoreClient, owed: Sequence[tuple[int, str]]) -> TurnOutcome:
        await send_answers(client, owed, self._emit)
        return Ok()
