"""Models of messages: sending, leasing, reading."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from hive_core.protocol.base import (
    MAX_LEASED,
    Answer,
    IdempotencyKey,
    Instance,
    MessageBody,
    MessageId,
    Query,
    Recipient,
    Request,
    WaitSeconds,
)


class SendRequest(Request):
    """Send `body` to one agent, `hm1nd`, `operator`, or `*` (every agent and the manager, but not the sender).

    The same `idempotency_key` from the same sender stores the message once, however often it is asked for.
    """

    to: Recipient
    body: MessageBody
    reply_to: MessageId | None = None
    idempotency_key: IdempotencyKey | None = None


class SendAnswer(Answer):
    """The stored message. `duplicate` is true if an earlier request with this key has stored it."""

    id: int
    recipients: list[str]
    duplicate: bool = False


class Message(Answer):
    """A stored message."""

    id: int
    sender: str
    to: str
    body: str
    reply_to: int | None = None
    sent_at: AwareDatetime


class Delivery(Message):
    """A message leased to a harness; `attempt` counts from 1, `redelivered` is true if it was handed out before."""

    attempt: int
    redelivered: bool


class ReceiveRequest(Request):
    """Lease up to `max` waiting messages, oldest first; wait up to `wait_seconds` for the first.

    `holding` lists the ids that the caller knows it holds: other messages leased to it, whose delivery was lost,
    are handed out again. None leaves other leases of this instance alone.
    """

    instance: Instance
    wait_seconds: WaitSeconds = 0.0
    max: Annotated[int, Field(ge=1, le=100)] = 10
    holding: Annotated[list[MessageId], Field(max_length=MAX_LEASED, fail_fast=True)] | None = None


class ReceiveAnswer(Answer):
    """Leased messages; `waiting` counts the caller's unacknowledged messages beyond these."""

    deliveries: list[Delivery]
    waiting: int


class AckRequest(Request):
    """Acknowledge messages whose turn ended well.

    They are named one by one, because an instance may hold a message whose delivery was lost.
    """

    instance: Instance
    ids: Annotated[list[MessageId], Field(max_length=MAX_LEASED, fail_fast=True)]


class LeaseRequest(Request):
    """Release or renew leases of this instance: those in `ids`, or all that it holds."""

    instance: Instance
    ids: Annotated[list[MessageId], Field(max_length=MAX_LEASED, fail_fast=True)] | None = None


class LeaseAnswer(Answer):
    """The ids that the request changed. An id acknowledged before is left out, and that is no error."""

    ids: list[int]


class InboxQuery(Query):
    """The operator's messages, newest last: the unread ones, or `all` of them."""

    view: Literal["unread", "all"] = "unread"
    limit: Annotated[int, Field(ge=1, le=1_000)] = 50
    before: MessageId | None = None


class InboxAnswer(Answer):
    """Messages of the operator; `unread` counts all of the operator's unread messages, also those beyond the limit."""

    messages: list[Message]
    unread: int


class MarkReadRequest(Request):
    """Mark messages of the operator as read."""

    ids: Annotated[list[MessageId], Field(min_length=1, max_length=1_000, fail_fast=True)]


class WaitQuery(Query):
    """The longest time to wait for an answer, in seconds."""

    wait_seconds: WaitSeconds = 0.0


class ReplyAnswer(Answer):
    """The first unread message to the operator that answers the one asked about, if it came in time.

    That is a message with its id in `reply_to`, or one without `reply_to` from the agent that was asked. `handled` is
    true if there is none and none is to come: all recipients have handled the message and sent nothing since.
    """

    reply: Message | None
    handled: bool = False
