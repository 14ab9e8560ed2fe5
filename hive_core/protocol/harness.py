"""What a harness and the daemon say to each other, and what agents may know of each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from hive_core.protocol.agent_config import AgentConfig
from hive_core.protocol.base import Answer, HarnessState, Instance, Kind, Lifecycle, Request


class HelloRequest(Request):
    """A harness has started: it becomes the agent's only one, and leases of earlier ones are released.

    `deployment` is the one that the runtime has started it with. `again`: it had said hello to an earlier daemon, and
    goes on; that is refused as `superseded` if another harness has taken its place meanwhile.
    """

    instance: Instance
    version: Annotated[str, StringConstraints(max_length=64)]
    deployment: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    again: bool = False


class Profile(Answer):
    """Who the harness is and what it is to do, as approved."""

    name: str
    kind: Kind
    config: AgentConfig
    prompt: str
    deployment: int
    lease_seconds: float

    @field_validator("config", mode="before")
    @classmethod
    def _skip_unknown(cls, config: object) -> object:
        """A configuration refuses unknown keys where it is written; a harness that reads a newer one skips them."""
        if isinstance(config, dict):
            return {key: value for key, value in config.items() if key in AgentConfig.model_fields}
        return config


class StateRequest(Request):
    """The harness says what it is doing."""

    instance: Instance
    state: HarnessState
    detail: Annotated[str, StringConstraints(max_length=2_000)] = ""


class WhoAmI(Answer):
    """Who the socket belongs to."""

    name: str
    kind: Kind
    allowed_recipients: list[str] | None
    deployment: int


class Peer(Answer):
    """What an agent may know of another. `status` is what that one says it is at."""

    name: str
    kind: Kind
    lifecycle: Lifecycle
    state: HarnessState
    status: str = ""


class PeerList(Answer):
    """All agents of the hive, the manager first."""

    agents: list[Peer]
