"""Packets between the daemon and the egress proxy: one JSON object each, with a `kind`.

The daemon sends every agent with its policy and its listener, and then `synced`; after that what changes. The proxy
forgets agents that were not named before `synced`. Both read leniently, because one of them may be older.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hive_core.protocol.network.policy import EgressPolicy

MAX_PACKET = 64 * 1024
"""Largest packet, in bytes."""

Reason = Literal[
    "no_rule",
    "denied",
    "not_a_name",
    "port",
    "refused_address",
    "not_tls",
    "server_name",
    "encrypted_hello",
    "connections",
    "bytes_per_day",
    "bad_request",
    "service_down",
    "service_withdrawn",
]
"""Why the proxy has refused something; docs/network.md explains each."""


class EgressPacket(BaseModel):
    """A packet of the connection between the daemon and the egress proxy."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class AgentPacket(EgressPacket):
    """The reach of an agent from now on, and the bytes that were counted for it on this day (UTC)."""

    kind: Literal["agent"] = "agent"
    name: str
    policy: EgressPolicy
    bytes_today: Annotated[int, Field(ge=0)] = 0


class ListenerPacket(EgressPacket):
    """The listening socket of an agent's loopback, attached as a descriptor. It replaces an earlier one.

    `purpose` is `proxy`, or `service:` with the name of a service of the host.
    """

    kind: Literal["listener"] = "listener"
    name: str
    purpose: str


class GonePacket(EgressPacket):
    """The end of an agent: its listener is closed and its connections end. It is answered with `ended`."""

    kind: Literal["gone"] = "gone"
    name: str


class SyncedPacket(EgressPacket):
    """The end of the first description of everything."""

    kind: Literal["synced"] = "synced"


class EndConnectionsPacket(EgressPacket):
    """The request to end the open connections of an agent that its policy does not allow any more."""

    kind: Literal["end_connections"] = "end_connections"
    name: str


class RefusedPacket(EgressPacket):
    """Refusals of one host and port for one reason since the last such packet.

    `missing` is the rule that would have let them through, empty if none would. `host` is empty if the request named
    none, and for the rest if an agent asks for many hosts in a short time. `host` and `detail` hold what the agent
    asked for: words of the agent's. For a service of the host, `host` is the purpose of its listener, and `port` 0.
    """

    kind: Literal["refused"] = "refused"
    agent: str
    host: str
    port: int
    reason: Reason
    missing: str = ""
    detail: str = ""
    count: Annotated[int, Field(ge=1)] = 1


class TrafficPacket(EgressPacket):
    """Connections of an agent now, and bytes since the last such packet: `sent` by the agent and `received` by it."""

    kind: Literal["traffic"] = "traffic"
    agent: str
    connections: int
    sent: int
    received: int


class ListenerLostPacket(EgressPacket):
    """The news that an agent's listener accepts nothing any more, for example because the agent has shut it down."""

    kind: Literal["listener_lost"] = "listener_lost"
    name: str
    purpose: str
    why: str


class EndedPacket(EgressPacket):
    """The news that nothing more is told of an agent that is gone."""

    kind: Literal["ended"] = "ended"
    name: str


ToEgress = Annotated[
    AgentPacket | ListenerPacket | GonePacket | SyncedPacket | EndConnectionsPacket, Field(discriminator="kind")
]
FromEgress = Annotated[RefusedPacket | TrafficPacket | ListenerLostPacket | EndedPacket, Field(discriminator="kind")]

TO_EGRESS: TypeAdapter[ToEgress] = TypeAdapter(ToEgress)
"""Reads what the daemon sends."""
FROM_EGRESS: TypeAdapter[FromEgress] = TypeAdapter(FromEgress)
"""Reads what the proxy sends."""
