"""Models of the requests of a harness, and of the agents as other agents see them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from hive_core.protocol.base import Answer, HarnessState, Instance, Kind, Lifecycle, Request
from hive_core.protocol.config.agent_config import AgentConfig
from hive_core.protocol.models.vendors import VendorApi


class HelloRequest(Request):
    """Report the start of a harness: it becomes the agent's only one, and leases of earlier ones are released.

    `deployment` is the one with which the runtime has started it. `again` is for a harness that has said hello to an
    earlier daemon; it is refused as `superseded` if another harness has said hello since.
    """

    instance: Instance
    version: Annotated[str, StringConstraints(max_length=64)]
    deployment: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    again: bool = False


class AgentRepository(Answer):
    """A repository of `repos` in agent.toml, as its harness has to know it.

    `branch` is the branch on which work lands. `instructions` is the operator's permission for its CLAUDE.md, AGENTS.md
    and skills to reach the agent CLI. `checks` are the commands that have to succeed on submitted work.
    """

    name: str
    branch: str
    instructions: bool = True
    checks: list[str] = Field(default_factory=list)


class AgentReach(Answer):
    """The network of an agent when its harness starts: that of the host, or hosts through the hive's proxy.

    `hosts` are rules and names of sets that have no end; others may come and go while the agent runs.
    """

    sealed: bool
    hosts: list[str] = Field(default_factory=list)


class Profile(Answer):
    """The agent of the harness and its approved configuration.

    `repositories` are those of the configuration that are registered, and `provider_api` is the API of its provider.

    `crashed` is true if the harness before this one ended without the hive having stopped it, as far as this daemon
    knows. `control_key` is what the daemon names itself by on the view socket. `reach` is None from older daemons.
    """

    name: str
    kind: Kind
    config: AgentConfig
    prompt: str
    deployment: int
    lease_seconds: float
    crashed: bool = False
    repositories: list[AgentRepository] = Field(default_factory=list)
    control_key: str = ""
    reach: AgentReach | None = None
    provider_api: VendorApi | None = None

    @field_validator("config", mode="before")
    @classmethod
    def _skip_unknown(cls, config: object) -> object:
        """A configuration refuses unknown keys where it is written; a harness that reads a newer one skips them."""
        if isinstance(config, dict):
            return {key: value for key, value in config.items() if key in AgentConfig.model_fields}
        return config


class HarnessWork(Request):
    """The conversation of a harness: its model, the tokens of its window that are taken, and the end of its last turn.

    The time is in seconds since 1970.
    """

    model: Annotated[str, StringConstraints(max_length=200)] | None = None
    context: Annotated[int, Field(ge=0, le=2**53)] = 0
    window: Annotated[int, Field(ge=0, le=2**53)] = 0
    last_turn_at: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)] | None = None


class StateRequest(Request):
    """Report the state of the harness. `notice` is for the operator: something happened, and nobody has to act.

    `goes_on_at` is the time at which it tries again by itself, in seconds since 1970. `turn` is the number of the turn
    that it is at. `work` is what an overview shows of the conversation.
    """

    instance: Instance
    state: HarnessState
    detail: Annotated[str, StringConstraints(max_length=2_000)] = ""
    notice: Annotated[str, StringConstraints(max_length=2_000)] = ""
    goes_on_at: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)] | None = None
    turn: Annotated[int, Field(ge=0, le=2**53)] | None = None
    work: HarnessWork | None = None


class WhoAmI(Answer):
    """The agent of the socket."""

    name: str
    kind: Kind
    allowed_recipients: list[str] | None
    deployment: int


class Peer(Answer):
    """An agent as other agents see it. `status` is the text that it has set itself."""

    name: str
    kind: Kind
    lifecycle: Lifecycle
    state: HarnessState
    status: str = ""


class PeerList(Answer):
    """All agents of the hive, the manager first."""

    agents: list[Peer]
