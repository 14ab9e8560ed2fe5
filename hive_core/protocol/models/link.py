"""Packets of the link between the daemon and the relay: each is one JSON object with its `kind`.

The daemon sends providers, agents and listeners (with the descriptor), then `synced`; after a reconnect everything
anew. The relay says who it is, asks before each call, and settles each call after it until the daemon has answered.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from hive_core.protocol.base import Answer
from hive_core.protocol.models.budgets import BudgetRefusal
from hive_core.protocol.models.providers import ProviderAccess
from hive_core.protocol.models.usage import CallOutcome, TokenCounts
from hive_core.protocol.models.vendors import VendorApi


class RelayProvider(Answer):
    """A provider: its address, the names of its keys, and the bounds of its calls."""

    kind: Literal["provider"] = "provider"
    name: str
    api: VendorApi
    base_url: str
    keys: list[str] = Field(default_factory=list)
    fields: list[str] = Field(default_factory=list)
    max_output_tokens: int = 32_000
    calls_at_once: int = 16


class RelayAgent(Answer):
    """An agent and what it may use; it replaces what was sent of the agent before."""

    kind: Literal["agent"] = "agent"
    name: str
    access: list[ProviderAccess] = Field(default_factory=list)


class RelayListener(Answer):
    """A listening socket of an agent, with its descriptor. It replaces the agent's last one.

    With a `key` only requests that have it are served: on loopback of the host anybody could connect.
    """

    kind: Literal["listener"] = "listener"
    name: str
    purpose: Literal["relay"] = "relay"
    key: str = Field(default="", repr=False)


class RelayGone(Answer):
    """An agent that is gone: its listener is closed, and its calls are ended."""

    kind: Literal["gone"] = "gone"
    name: str


class RelaySynced(Answer):
    """The end of what is sent after a connect; agents and providers that were not in it are gone."""

    kind: Literal["synced"] = "synced"


class RelayEndConnections(Answer):
    """Calls of an agent that have to end now."""

    kind: Literal["end_connections"] = "end_connections"
    name: str


class RelayAnswer(Answer):
    """The answer to the request of the same id: whether a call may be made, or that a settlement is stored.

    `problem` is a reason that is not the budget and passes by itself, in words for the agent; with `stopped` it is that
    the vendor has refused so many calls that none is passed on.
    """

    kind: Literal["answer"] = "answer"
    id: int
    granted: bool = False
    refusal: BudgetRefusal | None = None
    problem: str = ""
    stopped: bool = False


class RelayHello(Answer):
    """The first packet of a relay: `instance` is new for each process."""

    kind: Literal["hello"] = "hello"
    instance: str
    version: str = ""


class RelayReserve(Answer):
    """A request for the money of one call, which is made only if it is granted.

    `unbounded` is a call in which the model may read more than it was sent, `fast` one at a higher price.
    """

    kind: Literal["reserve"] = "reserve"
    id: int
    call: str
    agent: str
    provider: str
    model: str
    bytes: int
    max_tokens: int
    unbounded: bool = False
    fast: bool = False


class RelaySettle(Answer):
    """The end of a call that was asked for. Without `tokens` the vendor has told nothing usable.

    `answered_bytes` are the bytes of text that came, `complete` says that the vendor's last word on tokens is in.
    """

    kind: Literal["settle"] = "settle"
    id: int
    call: str
    outcome: CallOutcome
    status: int | None = None
    served: str = ""
    tokens: TokenCounts | None = None
    complete: bool = False
    answered_bytes: int = 0
    first_byte: int | None = None
    duration: int | None = None


class RelayListenerLost(Answer):
    """The news that an agent's listener accepts nothing any more, for example because the agent has shut it down."""

    kind: Literal["listener_lost"] = "listener_lost"
    name: str


DaemonPacket = RelayProvider | RelayAgent | RelayListener | RelayGone | RelaySynced | RelayEndConnections | RelayAnswer
RelayPacket = RelayHello | RelayReserve | RelaySettle | RelayListenerLost


@cache
def _from_daemon() -> TypeAdapter[DaemonPacket]:
    return TypeAdapter(Annotated[DaemonPacket, Field(discriminator="kind")])


@cache
def _from_relay() -> TypeAdapter[RelayPacket]:
    return TypeAdapter(Annotated[RelayPacket, Field(discriminator="kind")])


def read_daemon_packet(data: bytes) -> DaemonPacket:
    """Read what the daemon has sent. Raises ValueError."""
    return _from_daemon().validate_json(data)


def read_relay_packet(data: bytes) -> RelayPacket:
    """Read what the relay has sent. Raises ValueError."""
    return _from_relay().validate_json(data)
