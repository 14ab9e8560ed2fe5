"""Models of an agent's page: tickets, sessions, and what a person types there; and of what its harness shows and takes.

The agent serves its page itself, so all of it passes through the agent. Its harness serves data and controls on the
agent's view socket, too, which the daemon passes on to the operator's programs. They are the agent's words, as its
programs could serve them as well: the daemon bounds them, and whoever shows them escapes them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from hive_core.protocol.base import Answer, HarnessState, IdempotencyKey, MessageBody, MessageId, Query, Request
from hive_core.protocol.config.agent_config import Effort
from hive_core.protocol.messaging.questions import AskedText, QuestionId

INBOX_BODY = 2_000
"""Characters of a message that an inbox shows."""
MAX_TYPED_BYTES = 16 * 1024
"""Largest message that is typed on a page, in bytes of UTF-8."""

Secret = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class PageTicket(Answer):
    """A one-time ticket for the page of one agent. `expires_in` is in seconds.

    The page is on `port` of the host's loopback if the daemon has that port, `held`, and on `socket`, a path on the
    host. The port is not held if the agent's network is `sealed`, or another program has it.
    """

    ticket: str
    port: int
    held: bool
    sealed: bool
    socket: str
    expires_in: float


class PageEnterRequest(Request):
    """Exchange a ticket for a session."""

    ticket: Secret


class PageCheckRequest(Request):
    """Check that a session is still valid."""

    session: Secret


class PageSession(Answer):
    """A person on the agent's page. `session` is the secret that the browser keeps; `expires_in` is in seconds."""

    session: str
    user: str
    expires_in: float


class PageSendRequest(Request):
    """A message of the operator's to the agent, as typed on its page; `body` has at most 16 KiB of UTF-8.

    It counts in the agent's own budgets, because the agent can type there as well.
    """

    session: Secret
    body: str
    reply_to: MessageId | None = None
    idempotency_key: IdempotencyKey


class PageAnswerRequest(Request):
    """The operator's answer to a question of the agent, as typed on its page."""

    session: Secret
    question: QuestionId
    text: AskedText


class PeekQuery(Query):
    """The number of messages in the agent's inbox to show, the oldest first."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class QueueRemoval(Request):
    """Take a waiting message out of an agent's inbox; an agent that sent it is told, with the reason."""

    reason: Annotated[str, StringConstraints(max_length=2_000)] = ""


class QueueEdit(Request):
    """Replace the text of a waiting message; an agent that sent it is told."""

    body: MessageBody


class QueueMove(Request):
    """Move a waiting message before the message `before`; None: to the end."""

    before: MessageId | None = None


class InboxMessage(Answer):
    """A message that waits for the agent, or is `leased` to its harness.

    `body` has the first 2,000 of its `characters`.
    """

    id: int
    sender: str
    body: str
    characters: int
    sent_at: AwareDatetime
    leased: bool


class Inbox(Answer):
    """The agent's inbox; `total` counts all of its unacknowledged messages, also those beyond the limit."""

    messages: list[InboxMessage]
    total: int


CONTROL_PATH = "/control"
"""The path of the harness's data and controls on the view socket."""
CONTROL_KEY = "X-Hive-Control"
"""The header with `Profile.control_key`."""

TurnId = Annotated[int, Field(ge=0, le=2**53)]
_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Cost = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
_Short = Annotated[str, StringConstraints(max_length=200)]
_Text = Annotated[str, StringConstraints(max_length=4_000)]


class TurnRequest(Request):
    """The turn that is meant."""

    turn: TurnId


class ModelRequest(Request):
    """The model and the effort from the next turn on; None is what `agent.toml` says."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None
    effort: Effort | None


class LoginCodeRequest(Request):
    """The code that the address of the login showed."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True, pattern=r"\S")]


class TurnsQuery(Query):
    """Turns with an id below `before`, the newest first."""

    before: TurnId | None = None
    limit: Annotated[int, Field(ge=1, le=50)] = 10


class TranscriptQuery(Query):
    """The last `limit` entries of a turn before the entry `before` (`<attempt>.<n>`), or of all of it."""

    turn: TurnId
    before: Annotated[str, StringConstraints(pattern=r"^\d{1,9}\.\d{1,9}$")] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 200


class LoginAddress(Answer):
    """The address that a person has to open to log the agent's program in. The agent chooses it."""

    url: _Text


class TurnView(Answer):
    """A turn as the harness tells it. Times are seconds since 1970; `ended_at` is None while it runs or waits.

    A `waiting` turn is tried again by itself at `next_try_at`; a `held` one waits for `retry` or `skip`.
    """

    id: TurnId
    attempt: _Count
    state: Literal["running", "waiting", "held", "ok", "failed", "skipped"]
    started_at: _Seconds
    ended_at: _Seconds | None = None
    next_try_at: _Seconds | None = None
    messages: Annotated[list[_Count], Field(max_length=1_000, default_factory=list)]
    senders: Annotated[list[_Short], Field(max_length=1_000, default_factory=list)]
    words: _Short = ""
    failure: _Short | None = None
    detail: _Text = ""
    tool_calls: _Count = 0
    tokens_in: _Count = 0
    tokens_out: _Count = 0
    cost_usd: _Cost | None = None


class TurnList(Answer):
    """Turns, the newest first."""

    turns: Annotated[list[TurnView], Field(max_length=50)]


class WritingView(Answer):
    """The text that the model is writing in a turn, as far as it has come."""

    turn: TurnId
    text: Annotated[str, StringConstraints(max_length=200_000)]


class HarnessView(Answer):
    """The state of a harness as it tells it. `turn` is the running turn, or the one that is tried next.

    `activity` is what the running turn does now, in one line of its model's words.

    `paused`: it begins no turn until it is resumed. `login` is the address to open while a login is in progress.
    `event` is the id of the newest event of its stream, behind which a reader can go on.
    """

    state: HarnessState
    detail: _Text = ""
    backend: _Short = ""
    deployment: _Count = 0
    model: _Short | None = None
    effort: Effort | None = None
    models: Annotated[list[_Short], Field(max_length=200, default_factory=list)]
    context: _Count = 0
    window: _Count = 0
    turn: TurnView | None = None
    activity: _Short = ""
    held: Annotated[list[TurnView], Field(max_length=1_000, default_factory=list)]
    turns: _Count = 0
    tokens_in: _Count = 0
    tokens_out: _Count = 0
    cost_usd: _Cost | None = None
    login: _Text | None = None
    paused: bool = False
    writing: WritingView | None = None
    event: Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9.]*$")] = ""


class Transcript(Answer):
    """Entries of a turn's transcript, the oldest first; `more`: there are earlier ones.

    An entry has `turn`, `attempt`, `n` and `kind`; the rest depends on `kind`:

    - message: id, sender, text, characters (of the whole text); text: text, of the model
    - call: id, name, input; result: id (of the call), text, is_error, characters
    - notice: level, text, repeat; session: id, fresh
    - usage: input, output, cache_read, cache_write, cost_usd, context, window
    """

    entries: Annotated[list[dict[str, Any]], Field(max_length=500)]
    more: bool
