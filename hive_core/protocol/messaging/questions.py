"""Models of questions to the operator, reminders, and an agent's status."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from hive_core.errors.faults import in_words
from hive_core.protocol.base import Answer, IdempotencyKey, MessageBody, MessageId, Query, Request
from hive_core.protocol.proposals import Proposal

ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
MAX_OPTIONS = 10
MAX_OPTION = 200
"""Characters of one option."""
MAX_ASKED = 10_000
"""Characters of a question, and of its answer."""
MAX_REMINDED = 4_000
"""Characters of a reminder; an agent may have many."""
MAX_STATUS = 200
"""Characters of an agent's status."""
LONGEST_AHEAD = 366 * 86_400.0
"""Seconds that a reminder or the end of a question may lie ahead."""

QuestionId = MessageId
QuestionState = Literal["open", "answered", "expired"]
AskedText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ASKED)]
_ONE_LINE_WORDS = "it must be one line, without control characters"
Option = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_OPTION, pattern=ONE_LINE), in_words(_ONE_LINE_WORDS)
]


class AskRequest(Request):
    """Ask the operator. Without `free_text` the answer has to be one of `options`.

    `expires_in` is how many seconds the question stays open; None: until it is answered. The answer comes as a message
    from `operator`, the end of the time as one from `system`. The same `idempotency_key` asks once.
    """

    text: AskedText
    options: Annotated[list[Option], Field(max_length=MAX_OPTIONS)] = Field(default_factory=list)
    free_text: bool = True
    expires_in: Annotated[float, Field(ge=1.0, le=LONGEST_AHEAD, allow_inf_nan=False)] | None = None
    idempotency_key: IdempotencyKey | None = None


class Question(Answer):
    """A question of `agent` to the operator.

    `id` is also that of the message to the operator that asks it; the answer has it in `reply_to`.
    """

    id: int
    agent: str
    text: str
    options: list[str]
    free_text: bool
    asked_at: AwareDatetime
    expires_at: AwareDatetime | None
    state: QuestionState
    answer: str | None
    answered_by: str | None
    ended_at: AwareDatetime | None


class QuestionsQuery(Query):
    """Questions to the operator, the oldest first: those still open, or the newest of `all`."""

    view: Literal["open", "all"] = "open"
    agent: str | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class QuestionList(Answer):
    """Questions; `total` counts all that match, also beyond the limit and the size of one answer (4 MiB)."""

    questions: list[Question]
    total: int


class AnswerRequest(Request):
    """Answer a question, with `text` or with the number of an option (1 is the first); exactly one of them."""

    text: AskedText | None = None
    option: Annotated[int, Field(ge=1, le=MAX_OPTIONS)] | None = None


class RemindRequest(Request):
    """Set a reminder: `text` is sent at the time `at`, or after `after` seconds; give exactly one of them.

    A time in the past counts as now. The same `idempotency_key` makes one reminder.
    """

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_REMINDED)]
    at: AwareDatetime | None = None
    after: Annotated[float, Field(ge=0.0, le=LONGEST_AHEAD, allow_inf_nan=False)] | None = None
    idempotency_key: IdempotencyKey | None = None


class Reminder(Answer):
    """A reminder that is still to come."""

    id: int
    agent: str
    at: AwareDatetime
    text: str
    created_at: AwareDatetime


class RemindersQuery(Query):
    """Reminders that are still to come, of one agent or all, the next one first."""

    agent: str | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class ReminderList(Answer):
    """Reminders; `total` counts all that match, also beyond the limit and the size of one answer (4 MiB)."""

    reminders: list[Reminder]
    total: int


class OpenItems(Answer):
    """An agent's open questions, reminders that are still to come, and open proposals."""

    questions: list[Question]
    reminders: list[Reminder]
    proposals: list[Proposal]


class StatusRequest(Request):
    """Set the agent's status; an empty text removes it."""

    text: Annotated[str, StringConstraints(max_length=MAX_STATUS)]


class WakeRequest(Request):
    """Send a message from the agent to itself, from a program in the agent's container.

    It is not limited by `allowed_recipients`. The same `idempotency_key` sends once.
    """

    label: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=ONE_LINE), in_words(_ONE_LINE_WORDS)]
    body: MessageBody
    idempotency_key: IdempotencyKey | None = None
