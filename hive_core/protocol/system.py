"""Models of the daemon's health, status and events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from hive_core.protocol.base import Answer, Lifecycle, Query


class Health(Answer):
    """The answer of a daemon whose database writer works."""

    status: Literal["ok"] = "ok"


class HiveStatus(Answer):
    """The status of the daemon and its hive."""

    version: str
    pid: int
    started_at: datetime
    state_dir: str
    runtime: str
    confinement: str
    agents: dict[Lifecycle, int]
    messages_stored: int
    messages_unacked: int
    operator_unread: int
    open_questions: int = 0
    dashboard: str = ""
    """The address of the web pages; "" if there are none."""
    dashboard_problem: str = ""
    """The reason why the daemon cannot keep the dashboard running."""
    gateways_away: list[str] = Field(default_factory=list)
    """Egress and relay, where agents want them and they do not run."""
    network_requests: int = 0
    """The requests of agents to reach a host that wait for the operator."""
    open_networks: list[str] = Field(default_factory=list)
    """The agents that may reach everything that is public, by a rule that ends."""
    database_bytes: int = 0
    """The bytes used in the database file, of `database_limit` that may be; 0 in answers of older daemons."""
    database_limit: int = 0
    proposal_bytes: dict[str, int] = Field(default_factory=dict)
    """The bytes that the proposals of each agent take up, of `proposal_limit` that they may."""
    proposal_limit: int = 0
    build_problem: str = ""
    """The reason why nothing can be built on this host; proposals are refused meanwhile."""
    missing_environment: list[str] = Field(default_factory=list)
    """The variables of the setting `pass_environment` that the daemon does not have, so that agents do not either."""
    sealing: str = ""
    """The meaning of a sealed network on this host, or the reason why it is refused."""


class DatabaseIdentity(Answer):
    """The hive that a daemon serves: its state directory, and its agents with the times of their creation.

    The times are milliseconds since 1970.
    """

    state_dir: str
    agents: dict[str, int]


class DatabaseCopy(Answer):
    """A copy of the database: the name of a file in the directory `scratch` of the state directory."""

    file: str


EventKind = Literal[
    "message.sent",
    "message.delivered",
    "message.acknowledged",
    "message.released",
    "agent.state",
    "agent.lifecycle",
    "agent.status",
    "proposal.changed",
    "question.changed",
    "work.changed",
    "network.changed",
    "events.lost",
]


class Event(Answer):
    """One thing that happened, as `hive-c0re watch` shows it. `data` depends on `kind`:

    - message.sent: id, sender, to, recipients, reply_to, body (cut at 2,000 characters)
    - message.delivered: agent, ids, redelivered; message.acknowledged, message.released: agent, ids
    - agent.state: agent, state, detail; agent.lifecycle: agent, lifecycle, cause
    - agent.status: agent, status
    - question.changed: agent, id, state, by, text (the question, or its answer; cut at 2,000 characters)
    - proposal.changed: agent, number, kind, state, by, note (cut at 2,000 characters)
    - work.changed: repo, number, state, by, submitter, title (cut at 200 characters)
    - network.changed: agent (`*` for all), what (`allow`, `deny`, `open`, `ended`, `asked`, `denied`, `refused`), host,
      by, count (of refusals within about a second, of which `host` is one)
    - events.lost: count (the reader was too slow)
    """

    id: int
    kind: EventKind
    at: AwareDatetime
    data: dict[str, object]


class EventsQuery(Query):
    """Continue after this event, as with the `Last-Event-ID` header. None starts with the next event."""

    after: Annotated[int, Field(ge=0)] | None = None
