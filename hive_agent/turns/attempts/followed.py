"""An attempt of a turn that the harness follows by its entries, to judge its outcome and to send its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hive_agent.backends.base import Failed, Ok, TurnOutcome
from hive_agent.backends.transcript import Entry, EntrySink
from hive_agent.client.core_client import CoreClient
from hive_agent.turns.attempts.answers import OwedAnswers, send_answers
from hive_agent.turns.attempts.tool_calls import LostCalls
from hive_core.protocol import Delivery

Fetch = Callable[[], Awaitable[Sequence[Delivery]]]


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

    async def finish(self, outcome: TurnOutcome, client: CoreClient) -> TurnOutcome:
        """Send the answers of an attempt that has ended well; returns the outcome, with regard to lost tool calls.

        The answers are on the daemon's disk before the messages are acknowledged.
        """
        if not isinstance(outcome, Ok):
            return outcome
        if self._lost.reason:
            return Failed("lost_tools", self._lost.reason)
        if self._sends_answers:
            await send_answers(client, self.answers.owed(), self._emit)
        return outcome
