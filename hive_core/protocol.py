"""Every request and answer on the hive's sockets, as pydantic models: the one module that harnesses import.

Requests refuse unknown fields and wrong types; answers are read leniently, so that a harness built with an older
hyperhive keeps working beside a newer daemon. Times are UTC. The paths and who may call them are in
`hive_core.sockets`; the document made from both is served at `/v1/openapi.json`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from hive_core.names import EVERYONE, RECIPIENT_PATTERN, RESERVED, is_agent_name, why_not

MAX_BODY_BYTES = 256 * 1024
"""Largest message body, in bytes of UTF-8."""
MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""Largest HTTP request body: a message of only control characters grows six-fold in JSON."""
MAX_WAIT_SECONDS = 300.0
"""Longest time that a long poll may ask for."""


def _recipient(text: str) -> str:
    """Refuse what can be nobody's name, in words instead of as a pattern."""
    if text == EVERYONE or text in RESERVED or is_agent_name(text):
        return text
    raise PydanticCustomError("bad_name", "{why}", {"why": why_not(text)})


Recipient = Annotated[str, AfterValidator(_recipient), Field(json_schema_extra={"pattern": RECIPIENT_PATTERN})]
MessageId = Annotated[int, Field(ge=1, le=2**63 - 1)]
Instance = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{8,64}$")]
"""One life of a harness process; a new process picks a new one."""
WaitSeconds = Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]

Kind = Literal["agent", "manager"]
Backend = Literal["scripted", "claude"]
Lifecycle = Literal["starting", "running", "backoff", "stopping", "stopped", "failed"]
"""Of the container or process: `backoff` waits to be started again after a crash, `failed` gave up."""
HarnessState = Literal["starting", "idle", "thinking", "failed", "needs_login", "offline"]
"""Of the harness, in its own words; `offline` is the daemon's word for a harness that is not there."""


# defer_build: validators are made at their first use. No process uses all of them, and every start would pay for all.


class Request(BaseModel):
    """What a caller sends: closed, and strict about types."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class Query(BaseModel):
    """What a caller sends in the query string: closed; text is converted to the field's type."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Answer(BaseModel):
    """What the daemon answers: open, so that older readers skip what they do not know."""

    model_config = ConfigDict(extra="ignore", defer_build=True)


class ErrorBody(Answer):
    """`code` is stable and for programs; `message` says what and why; `hint` says what to do."""

    code: str
    message: str
    hint: str = ""


class ErrorAnswer(Answer):
    """The one shape of every error."""

    error: ErrorBody


class Done(Answer):
    """An action without a result of its own was carried out."""

    ok: Literal[True] = True


# --- an agent's configuration -------------------------------------------------------------------------------


class ScriptSend(Request):
    """One message that a script rule sends. `to` is a name, or `@label` for the sender of a remembered message.

    `text` may hold {body}, {sender}, {me} and {1}, {2}… (groups of the rule's `match`).
    """

    to: Annotated[str, StringConstraints(pattern=r"^(@[a-z0-9_]{1,32}|[a-z][a-z0-9]{0,8}|\*)$")]
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class ScriptRule(Request):
    """One rule of the scripted backend: the first whose `sender` and `match` fit a message is carried out.

    `remember` keeps the message under a label (in the agent's state), so that a later rule can answer it by
    sending to `@label`; `think` is how long the turn pretends to work, in seconds.
    """

    sender: str | None = None
    match: Annotated[str, StringConstraints(max_length=1_000)] = ""
    remember: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")] | None = None
    think: Annotated[float, Field(ge=0, le=60)] = 0.0
    send: Annotated[list[ScriptSend], Field(max_length=20)] = []


class AgentConfig(Request):
    """What `agent.toml` holds: what the hive enforces and what the harness uses.

    `allowed_recipients` of None allows everyone; a list is enforced by the daemon, and `*` in it allows
    broadcasts. `tools` are the agent CLI's own tools, beside the hive's.
    """

    backend: Backend = "scripted"
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    tools: Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=200)]], Field(max_length=100)] = [
        "Bash",
        "Read",
        "Write",
        "Edit",
    ]
    allowed_recipients: Annotated[list[Recipient], Field(max_length=1_000)] | None = None
    turn_timeout: Annotated[float, Field(gt=0, le=86_400)] = 3_600.0
    script: Annotated[list[ScriptRule], Field(max_length=100)] = []


# --- messages -----------------------------------------------------------------------------------------------


class SendRequest(Request):
    """Send `body` to one agent, `hm1nd`, `operator`, or `*` (every agent and the manager, but not the sender).

    The same `idempotency_key` from the same sender stores the message once, however often it is asked for.
    """

    to: Recipient
    body: str
    reply_to: MessageId | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None


class SendAnswer(Answer):
    """The message is on disk. `duplicate`: an earlier request with this key had stored it already."""

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
    """A message leased to a harness; `attempt` counts from 1, `redelivered` says that it may have been seen."""

    attempt: int
    redelivered: bool


class ReceiveRequest(Request):
    """Lease up to `max` waiting messages, oldest first; wait up to `wait_seconds` for the first.

    `holding` lists the ids that the caller knows it holds: what else is leased to it (its last answer was lost
    on the way) is handed out again. None leaves other leases of this instance alone.
    """

    instance: Instance
    wait_seconds: WaitSeconds = 0.0
    max: Annotated[int, Field(ge=1, le=100)] = 10
    holding: Annotated[list[MessageId], Field(max_length=10_000)] | None = None


class ReceiveAnswer(Answer):
    """`waiting` is how many unacknowledged messages the caller has beyond these."""

    deliveries: list[Delivery]
    waiting: int


class AckRequest(Request):
    """The turn that handled these messages ended well.

    They are named one by one: an instance may hold a message whose delivery it never got to see.
    """

    instance: Instance
    ids: Annotated[list[MessageId], Field(max_length=10_000)]


class LeaseRequest(Request):
    """Release or renew leases of this instance: those in `ids`, or all that it holds."""

    instance: Instance
    ids: Annotated[list[MessageId], Field(max_length=10_000)] | None = None


class LeaseAnswer(Answer):
    """The ids that the request changed. An id acknowledged before is left out, and that is no error."""

    ids: list[int]


class InboxQuery(Query):
    """The operator's messages, newest last: the unread ones, or `all` of them."""

    view: Literal["unread", "all"] = "unread"
    limit: Annotated[int, Field(ge=1, le=1_000)] = 50
    before: MessageId | None = None


class InboxAnswer(Answer):
    """`unread` counts all of the operator's unread messages, also those beyond the limit."""

    messages: list[Message]
    unread: int


class MarkReadRequest(Request):
    """Mark messages of the operator as read."""

    ids: Annotated[list[MessageId], Field(min_length=1, max_length=1_000)]


class WaitQuery(Query):
    """How long to wait for something to come, in seconds."""

    wait_seconds: WaitSeconds = 0.0


class ReplyAnswer(Answer):
    """The first unread message to the operator that answers the one asked about, if it came in time.

    That is a message with its id in `reply_to`, or one without `reply_to` from the agent that was asked.
    """

    reply: Message | None


# --- harness ------------------------------------------------------------------------------------------------


class HelloRequest(Request):
    """A harness has started: it becomes the agent's only one, and leases of earlier ones are released."""

    instance: Instance
    version: Annotated[str, StringConstraints(max_length=64)]


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
    """What an agent may know of another."""

    name: str
    kind: Kind
    lifecycle: Lifecycle
    state: HarnessState


class PeerList(Answer):
    """All agents of the hive, the manager first."""

    agents: list[Peer]


# --- agents, as the operator and the manager see them -------------------------------------------------------


class SpawnRequest(Request):
    """Make an agent. `hm1nd` makes the manager. `agent_nix` defaults to the template."""

    name: str
    config: AgentConfig = AgentConfig()
    prompt: Annotated[str, StringConstraints(max_length=100_000)] = ""
    agent_nix: Annotated[str, StringConstraints(max_length=1_000_000)] | None = None
    start: bool = True


class AgentStatus(Peer):
    """An agent as the operator sees it. `unacked` messages wait for it; `restarts` counts those after crashes."""

    backend: Backend
    model: str | None
    detail: str
    state_since: datetime | None
    started_at: datetime | None
    pid: int | None
    restarts: int
    exit_cause: str
    unacked: int
    web_port: int
    deployment: int
    confinement: str


class AgentList(Answer):
    """All agents, the manager first."""

    agents: list[AgentStatus]


class DestroyRequest(Request):
    """Remove an agent. Its state directory and waiting messages stay unless `purge` is set."""

    purge: bool = False


class DestroyAnswer(Answer):
    """`dropped_messages`: unacknowledged messages that a purge removed."""

    name: str
    purged: bool
    dropped_messages: int


class LogsQuery(Query):
    """The last `lines`, or what came after `cursor` (from an earlier answer), waiting for it if there is none."""

    lines: Annotated[int, Field(ge=1, le=10_000)] = 100
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = None
    wait_seconds: WaitSeconds = 0.0


class LogsAnswer(Answer):
    """`cursor` is where the next request goes on."""

    lines: list[str]
    cursor: str


# --- the hive -----------------------------------------------------------------------------------------------


class Health(Answer):
    """The daemon answers and its database writer works."""

    status: Literal["ok"] = "ok"


class HiveStatus(Answer):
    """The daemon and its hive at a glance."""

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


EventKind = Literal[
    "message.sent",
    "message.delivered",
    "message.acknowledged",
    "message.released",
    "agent.state",
    "agent.lifecycle",
    "events.lost",
]


class Event(Answer):
    """One thing that happened, as `hive-c0re watch` shows it. `data` depends on `kind`:

    - message.sent: id, sender, to, recipients, reply_to, body (cut at 2,000 characters)
    - message.delivered: agent, ids, redelivered; message.acknowledged, message.released: agent, ids
    - agent.state: agent, state, detail; agent.lifecycle: agent, lifecycle, cause
    - events.lost: count (the reader was too slow)
    """

    id: int
    kind: EventKind
    at: AwareDatetime
    data: dict[str, object]


class EventsQuery(Query):
    """Where to go on; the `Last-Event-ID` header does the same. None starts with what happens next."""

    after: Annotated[int, Field(ge=0)] | None = None
