"""The check whether a conversation can go on, after turns in it have failed in a row."""

from __future__ import annotations

from typing import Literal

from hive_agent.backends.base import Ok, TurnOutcome
from hive_agent.backends.transcript import EntrySink, Notice
from hive_agent.turns.conversation.conversation import Conversation, KeepLeases

Verdict = Literal[
    "unchecked",  # too few turns have failed, or the check failed for another reason, such as a rate limit
    "works",  # the conversation can go on, so the messages are the cause
    "renewed",  # the conversation cannot go on; a new one, which works, has begun
    "useless",  # a new conversation would fail as well, so the old one was kept
]

_PROOFS = frozenset({"refused", "too_long", "crashed", "hung", "timeout", "internal"})
"""Failures of a turn that asks for nothing which prove that the conversation cannot go on."""
_ENOUGH = frozenset({"steps", "cancelled"})
"""Failures of such a turn in spite of which the model was reached."""

NEW_SESSION = (
    "Its conversation could not go on: turns failed in a row, and so did a turn of the harness itself, which worked in "
    "a new conversation. That has begun now, with the agent's notes. The last failure: {}"
)
"""The notice to the operator about a new conversation, with the last failure in the old one."""


class ConversationCheck:
    """Counts failures in a row, and finds out whether the conversation is their cause.

    A model's API may refuse every request because of the history in it, and an agent CLI may exit whenever it loads a
    damaged transcript. Then every message fails. A turn of the harness itself, which asks for nothing, tells this from
    a message that fails in any conversation. If it fails too, the same is tried in a new conversation, and only if that
    works, the old one is given up.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._failures = 0
        self._renewed_for: int | None = None

    def record_success(self) -> None:
        """Forget the failures, since a turn has ended well."""
        self._failures, self._renewed_for = 0, None

    def has_renewed_for(self, turn: int) -> bool:
        """Return True if a new conversation has begun because of this turn, and no turn has ended well since."""
        return self._renewed_for == turn

    async def judge(self, turn: int, after: int, emit: EntrySink, keep_leases: KeepLeases) -> Verdict:
        """Count a failure of the turn with the id `turn`; check the conversation after so many in a row.

        A conversation that has begun because of failures is checked after each.
        """
        self._failures += 1
        if self._renewed_for is None and self._failures < after:
            return "unchecked"
        emit(Notice("info", "turns have failed in a row: the hive checks whether the conversation can go on"))
        verdict = _judge(await self._conversation.check(emit, keep_leases))
        if verdict == "renewed":
            verdict = await self._try_new_session(emit, keep_leases)
        if verdict in ("works", "renewed"):
            self._failures = 0
        if verdict == "renewed":
            self._renewed_for = turn
        return verdict

    async def _try_new_session(self, emit: EntrySink, keep_leases: KeepLeases) -> Verdict:
        await self._conversation.start_new_session(notes=True)
        works = False
        try:
            verdict = _judge(await self._conversation.check(emit, keep_leases))
            works = verdict == "works"
        finally:
            if not works:
                await self._conversation.return_to_session()
        if works:
            emit(Notice("warning", "the conversation could not go on: a new one has begun with the agent's notes"))
            return "renewed"
        if verdict == "renewed":
            emit(Notice("error", "a new conversation fails, too, so the conversation was kept"))
            return "useless"
        return "unchecked"


def _judge(outcome: TurnOutcome) -> Verdict:
    """The verdict of a turn that asks for nothing on its conversation; `renewed` if it needs to be replaced."""
    kind = getattr(outcome, "kind", None)
    if isinstance(outcome, Ok) or kind in _ENOUGH:
        return "works"
    return "renewed" if kind in _PROOFS else "unchecked"
