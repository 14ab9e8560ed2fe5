"""Models of the rules that operators make while agents run, of agents' requests for hosts, and of refusals."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from hive_core.protocol.base import Answer, Query, Request

RuleEffect = Literal["allow", "deny", "open"]
"""A rule allows a host, denies it, or opens everything that is public."""
RuleOrigin = Literal["settings", "agent.toml", "operator", "request"]
RequestState = Literal["open", "approved", "denied", "expired"]

MAX_WHY = 2_000
"""Characters of the reason of a request, and of the note of a decision."""
MAX_REQUEST_HOURS = 30 * 24.0
"""The longest time for which an agent may ask."""
REQUEST_DAYS = 7
"""Days after which a request on which nobody has decided expires."""
_MAX_HOURS = 366 * 24.0
_LEAST_HOURS = 1 / 60

HostEntry = Annotated[str, StringConstraints(min_length=1, max_length=300)]
"""A rule `host[:port]`, or the name of a set; the daemon checks it (`bad_rule`)."""
Hours = Annotated[float, Field(ge=_LEAST_HOURS, le=_MAX_HOURS, allow_inf_nan=False)]
Note = Annotated[str, StringConstraints(max_length=MAX_WHY)]


class MakeRule(Request):
    """Make a rule that holds from the next connection on, for `hours` or until it is removed.

    `open` has no host and always an end. A rule takes the place of another one for the same host.
    """

    effect: RuleEffect
    host: HostEntry | None = None
    hours: Hours | None = None
    note: Note = ""


class RemoveRule(Request):
    """Remove the rule that an operator, or a decision on a request, has made for a host."""

    host: HostEntry


class NetworkRule(Answer):
    """One rule that is in force. Rules of the settings and of agent.toml have no id.

    `agent` is `*` if the rule holds for all agents, and `host` is empty if it opens everything. `note` is the
    operator's, or the reason that the agent gave for its request.
    """

    id: int | None = None
    agent: str
    effect: RuleEffect
    host: str = ""
    origin: RuleOrigin
    made_by: str = ""
    note: str = ""
    made_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None


class RefusedHost(Answer):
    """Refusals of one host and port for one reason, which `why` puts into words.

    `host` is empty for hosts that are not kept, and `service:` with a name, without a port (0), for a service of the
    host. `missing` is the rule that would let them through, if any would. `host`
    and `detail` are words of the agent.
    """

    host: str
    port: int
    reason: str
    why: str
    missing: str = ""
    detail: str = ""
    count: int
    first_at: AwareDatetime
    last_at: AwareDatetime


class AskForHost(Request):
    """Ask to reach a host for some hours. Asking again for a host whose request is open changes nothing."""

    host: HostEntry
    why: Annotated[str, StringConstraints(min_length=1, max_length=MAX_WHY)]
    hours: Annotated[float, Field(ge=_LEAST_HOURS, le=MAX_REQUEST_HOURS, allow_inf_nan=False)] = 24.0


class NetworkRequest(Answer):
    """An agent's request to reach a host. `waits_for` is who decides on it, None if it is decided or expired."""

    id: int
    agent: str
    host: str
    why: str
    hours: float
    state: RequestState
    asked_at: AwareDatetime
    waits_for: Literal["manager", "operator"] | None = None
    decided_at: AwareDatetime | None = None
    decided_by: str | None = None
    note: str = ""


class NetworkRequestsQuery(Query):
    """Requests of one agent or of all, the oldest first: those still open, or the newest of `all`."""

    state: Literal["open", "all"] = "open"
    agent: str | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class NetworkRequestList(Answer):
    """Requests; `total` counts all that match, also beyond the limit."""

    requests: list[NetworkRequest]
    total: int


class ApproveHost(Request):
    """Approve a request, for as long as it asks or for `hours`. The agent gets the note."""

    hours: Hours | None = None
    note: Note = ""


class DenyHost(Request):
    """Deny a request. The agent gets the note."""

    note: Annotated[str, StringConstraints(min_length=1, max_length=MAX_WHY)]


class AgentTraffic(Answer):
    """Connections of an agent through the proxy now, and the bytes that it sent and received on this day (UTC)."""

    connections: int = 0
    sent_today: int = 0
    received_today: int = 0


class NetworkSummary(Answer):
    """The reach of an agent, in short. `network` is `host` if no rule holds for it, as it has the host's network:
    `network_implied` is true if only because that was the default once, `unsealed` if nothing seals it here.

    `open` is true while it reaches everything that is public, until `open_until`, if that has an end.
    """

    agent: str
    network: Literal["host", "sealed"]
    network_implied: bool = False
    unsealed: bool = False
    open: bool
    open_until: AwareDatetime | None = None
    allowed: int
    denied: int
    refusals: int
    traffic: AgentTraffic


class NetworkOverview(Answer):
    """The agents, the rules that hold for all of them, and the requests that are open."""

    agents: list[NetworkSummary]
    rules: list[NetworkRule]
    requests: list[NetworkRequest]


class NetworkService(Answer):
    """A service of the host that an agent has: its address, None while it is not offered, and that in the agent."""

    name: str
    address: str | None = None
    in_agent: str | None = None


class AgentNetwork(NetworkSummary):
    """The reach of an agent: the rules in force for it, its open requests, and what was refused most.

    `services` are those of the host that it reaches by name.
    """

    rules: list[NetworkRule]
    requests: list[NetworkRequest]
    refused: list[RefusedHost]
    services: list[NetworkService] = Field(default_factory=list)
