"""What `agent.toml` may hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from hive_core.protocol.limits import CpuQuota, IoWeight, MemorySize, TasksMax
from hive_core.protocol.shapes import Request
from hive_core.protocol.types import Backend, Recipient

DEFAULT_TOOLS = ("Bash", "Read", "Write", "Edit")
ToolPattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ScriptSend(Request):
    """One message that a script rule sends. `to` is a name, or `@label` for the sender of a remembered message.

    `text` may hold {body}, {sender}, {me} and {1}, {2}… (groups of the rule's `match`).
    """

    to: Annotated[str, StringConstraints(pattern=r"^(@[a-z0-9_]{1,32}|[a-z][a-z0-9]{0,8}|\*)$")]
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class ScriptChange(Request):
    """One file of the agent's own configuration that a script rule writes before it proposes."""

    path: Annotated[str, StringConstraints(pattern=r"^(agent\.nix|agent\.toml|prompt\.md)$")]
    text: Annotated[str, StringConstraints(max_length=100_000)]


class ScriptProposal(Request):
    """Commit changes of the agent's own configuration and propose the commit. `note` may hold what `text` may."""

    changes: list[ScriptChange] = Field(min_length=1, max_length=10)
    note: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class ScriptDecision(Request):
    """Decide on a built proposal (the manager's scripts). All texts may hold what `text` may: {1} for the agent."""

    agent: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    number: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    decision: Literal["approve", "deny"]
    note: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class ScriptRule(Request):
    """One rule of the scripted backend: the first whose `sender` and `match` fit a message is carried out.

    `propose` and `decide` are carried out before anything is sent. `remember` keeps the message under a label (in the
    agent's state), so that a later rule can answer it by sending to `@label`; `think` is how long the turn pretends to
    work, in seconds.
    """

    sender: str | None = None
    match: Annotated[str, StringConstraints(max_length=1_000)] = ""
    remember: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")] | None = None
    think: Annotated[float, Field(ge=0, le=60)] = 0.0
    propose: ScriptProposal | None = None
    decide: ScriptDecision | None = None
    send: list[ScriptSend] = Field(default_factory=list, max_length=20)


class AgentConfig(Request):
    """What `agent.toml` holds: what the hive enforces and what the harness uses.

    `allowed_recipients` of None allows everyone; a list is enforced by the daemon, and `*` in it allows
    broadcasts. `tools` are the agent CLI's own tools, beside the hive's. `memory_max` is in MiB or GiB ("512M", "3G"),
    `cpu_quota` in percent of one core, `io_weight` a share (100 is everybody's); None leaves a limit to the operator's
    defaults. A `sealed` network is none at all: such an agent reaches the hive's socket and nothing else.
    """

    backend: Backend = "scripted"
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    tools: list[ToolPattern] = Field(default_factory=lambda: list(DEFAULT_TOOLS), max_length=100)
    allowed_recipients: Annotated[list[Recipient], Field(max_length=1_000)] | None = None
    memory_max: MemorySize | None = None
    cpu_quota: CpuQuota | None = None
    tasks_max: TasksMax | None = None
    io_weight: IoWeight | None = None
    network: Literal["host", "sealed"] = "host"
    turn_timeout: Annotated[float, Field(gt=0, le=86_400)] = 3_600.0
    script: list[ScriptRule] = Field(default_factory=list, max_length=100)
