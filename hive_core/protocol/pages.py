"""Models of an agent's page: tickets, sessions, and what a person types there.

The agent serves its page itself, so all of it passes through the agent.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from hive_core.protocol.base import Answer, IdempotencyKey, MessageId, Query, Request
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
