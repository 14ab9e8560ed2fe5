"""The keys of `agent.toml`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import in_words
from hive_core.protocol.base import Backend, Recipient, Request
from hive_core.protocol.config.host_access import BindName, DeviceName
from hive_core.protocol.config.limits import CpuQuota, IoWeight, MemorySize, TasksMax
from hive_core.protocol.config.secrets import MAX_SECRETS, SecretName
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.vendors import ModelFeature, ProviderName
from hive_core.protocol.names import ADDRESS_PATTERN
from hive_core.protocol.network.services import MAX_SERVICES, ServiceName
from hive_core.protocol.work.repositories import RepositoryName

DEFAULT_TOOLS = ("Bash", "Read", "Write", "Edit", "Glob", "Grep")
"""The tools of an agent CLI that everyone needs who works on code."""
WEB_TOOLS = ("WebFetch", "WebSearch")
"""The further default tools of an agent with the host's network: a sealed one gets no answer from the addresses and
services that they use, unless the operator has arranged for that.
"""
NetworkKind = Literal["host", "sealed"]
ToolPattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
HostText = Annotated[str, StringConstraints(min_length=1, max_length=300)]
"""A rule `host[:port]` or the name of a set, as the gate has checked it: what is one changes with versions."""
Effort = Literal["low", "medium", "high", "max"]
"""Levels of thinking, by the names of most agent CLIs; a backend takes the nearest that its own has."""
VariableName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"),
    in_words("it must be the name of a variable: A-Z, a-z, 0-9 and _, and no digit first"),
]
VariablePattern = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}\*?$"),
    in_words("it must be the name of a variable, or the beginning of one with * at its end"),
]


def _not_ours(name: str) -> str:
    if name == "hive":
        raise PydanticCustomError("taken", "`hive` is the hive's own MCP server; choose another name")
    return name


McpName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"),
    in_words("it must be a name of 1 to 32 letters, digits, _ and -, with a letter or digit first"),
    AfterValidator(_not_ours),
]
"""Name of an MCP server."""


_SETTINGS_AND_CODE = re.compile(r"(agent\.toml|prompt\.md|.*\.nix)", re.IGNORECASE)


def _names_data(pattern: str) -> str:
    *directories, last = pattern.split("/")
    if not {"", ".", ".."}.isdisjoint([*directories, last]):
        raise PydanticCustomError("bad_pattern", "a path below the configuration is needed, such as assets/*.png")
    ending = re.split(r"[*?\]]", last)[-1]
    if (ending != last or "[" in last) and re.fullmatch(r"[^\[]*\.[A-Za-z0-9]+", ending) is None:
        raise PydanticCustomError("bad_pattern", "a pattern ends in a suffix without wildcards, such as assets/*.png")
    if _SETTINGS_AND_CODE.fullmatch(last):
        raise PydanticCustomError("bad_pattern", "agent.toml, prompt.md and files of Nix code are always text")
    return pattern


FilePattern = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{1,200}$"),
    in_words("it must be a path or a pattern of 1 to 200 characters of ASCII without spaces"),
    AfterValidator(_names_data),
]
"""A path in the configuration; `*`, `?` and `[...]` match within one part of it, `**` matches any parts."""


class ScriptSend(Request):
    """One message that a script rule sends. `to` is a name, or `@label` for the sender of a remembered message.

    `text` may hold {body}, {sender}, {me} and {1}, {2}… (groups of the rule's `match`).
    """

    to: Annotated[
        str,
        StringConstraints(pattern=ADDRESS_PATTERN),
        in_words("it must be the name of an agent, operator, * or @ and a label"),
    ]
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class ScriptChange(Request):
    """One file of the agent's own configuration that a script rule writes before it proposes."""

    path: Annotated[
        str,
        StringConstraints(pattern=r"^(agent\.nix|agent\.toml|prompt\.md)$"),
        in_words("it must be agent.nix, agent.toml or prompt.md"),
    ]
    text: Annotated[str, StringConstraints(max_length=100_000)]


class ScriptProposal(Request):
    """Commit changes of the agent's own configuration and propose the commit. `note` may hold what `text` may."""

    changes: list[ScriptChange] = Field(min_length=1, max_length=10)
    note: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class ScriptFile(Request):
    """One file of a repository that a script rule writes before it submits; `path` is below the repository's root."""

    path: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=200),
        in_words("it must be a path below the repository, of letters, digits, _, . and -"),
    ]
    text: Annotated[str, StringConstraints(max_length=100_000)]


class ScriptWork(Request):
    """Commit changes in the agent's clone of `repo` and submit the commit. Both texts may hold what `text` may."""

    repo: RepositoryName
    files: list[ScriptFile] = Field(min_length=1, max_length=10)
    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    description: Annotated[str, StringConstraints(max_length=10_000)] = ""


class ScriptDecision(Request):
    """Decide on a built proposal of an agent, or on work for a repository: exactly one of `agent` and `repo` is given.

    All texts may hold what `text` may: {1} for the agent.
    """

    agent: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    repo: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    number: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    decision: Literal["approve", "deny"]
    note: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _has_one_subject(self) -> Self:
        if (self.agent is None) == (self.repo is None):
            raise PydanticCustomError("one_subject", "name either the agent of a proposal or the repo of work")
        return self


class ScriptHost(Request):
    """Ask to reach a host for some hours. `host` and `why` may hold what `text` may."""

    host: HostText
    why: Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
    hours: Annotated[float, Field(ge=1 / 60, le=720, allow_inf_nan=False)] = 24.0


class ScriptRule(Request):
    """One rule of the scripted backend: the first whose `sender` and `match` fit a message is carried out.

    `propose`, `submit`, `decide` and `request_network` are carried out before anything is sent. `remember` keeps the
    message under a label (in the agent's state), so that a later rule can answer it by sending to `@label`; `think` is
    how long the turn pretends to work, in seconds, in which it writes the text `say`, as a model does.
    """

    sender: str | None = None
    match: Annotated[str, StringConstraints(max_length=1_000)] = ""
    remember: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[a-z0-9_]{1,32}$"),
            in_words("it must be a label of 1 to 32 of a-z, 0-9 and _"),
        ]
        | None
    ) = None
    think: Annotated[float, Field(ge=0, le=60)] = 0.0
    say: Annotated[str, StringConstraints(max_length=10_000)] = ""
    propose: ScriptProposal | None = None
    submit: ScriptWork | None = None
    decide: ScriptDecision | None = None
    request_network: ScriptHost | None = None
    send: list[ScriptSend] = Field(default_factory=list, max_length=20)


class McpServer(Request):
    """An MCP server that the agent CLI gets beside the hive's: a program (`command`), or one at a `url`."""

    command: Annotated[str, StringConstraints(min_length=1, max_length=1_000)] | None = None
    args: list[Annotated[str, StringConstraints(max_length=10_000)]] = Field(default_factory=list, max_length=100)
    env: dict[VariableName, Annotated[str, StringConstraints(max_length=10_000)]] = Field(
        default_factory=dict, max_length=100
    )
    # A bound within the pattern would make its matcher of megabytes, in every process that knows this class.
    url: (
        Annotated[
            str,
            StringConstraints(pattern=r"^https?://[!-~]+$", max_length=2_000),
            in_words("it must be an address that begins with http:// or https://"),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise PydanticCustomError("one_way", "give either `command` (a program) or `url`")
        if self.url is not None and (self.args or self.env):
            raise PydanticCustomError("one_way", "`args` and `env` are for a `command`")
        return self


class AgentConfig(Request):
    """The content of `agent.toml`: settings that the hive enforces, and settings that the harness uses.

    `allowed_recipients` of None allows everyone; a list is enforced by the daemon, and `*` in it allows
    broadcasts. `tools` are the agent CLI's own tools, beside the hive's. `memory_max`, and `disk_max` for all that the
    agent can write, are in MiB or GiB ("512M", "3G"), `cpu_quota` in percent of one core, `io_weight` a share (100 is
    the default); None leaves a limit to the operator's defaults. A `sealed` network is none at all: such an agent
    reaches the hive's socket, and through the hive's proxy the hosts that it is allowed: those of `allowed_hosts`
    (`host[:port]`, `*.host`, names of sets), and those that the operator allows. The network of the `host` is all of
    it: services on the host's loopback, the cloud's metadata service, and the internet.
    `nix_daemon` shows the socket of the host's Nix daemon in the container, which builds and fetches for its callers:
    it is the whole network, also of a sealed agent, and the host's disk.

    `provider` is a provider of models of the operator's, which the agent uses through the relay, and `features` are
    abilities of its API beyond plain calls; `budget` are limits of what the agent spends there.

    `binds`, `devices` and `services` are names of directories, devices and services of the host that the operator
    offers. A sealed agent reaches a service at a port of its loopback.

    `binary_files` are the paths of files that may be other than text.

    `repos` are names of the hive's repositories: the agent sees the mirror of each, and works in a clone of its own.

    `turn_timeout` and `idle_timeout` are in seconds; `max_steps` is how many model calls one turn may take.
    `secrets` are names of the agent's secrets that its turns get as variables; all of them are files in
    `/run/hive/secrets`. `environment` are names of the harness's variables that the agent CLI gets beside those
    that its backend needs, a `*` at the end of one stands for any ending.
    """

    backend: Backend = "scripted"
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    effort: Effort | None = None
    provider: ProviderName | None = None
    features: list[ModelFeature] = Field(default_factory=list, max_length=20)
    budget: SpendingLimits = Field(default_factory=SpendingLimits)
    tools: list[ToolPattern] = Field(default_factory=lambda: list(DEFAULT_TOOLS), max_length=100)
    allowed_recipients: Annotated[list[Recipient], Field(max_length=1_000)] | None = None
    memory_max: MemorySize | None = None
    disk_max: MemorySize | None = None
    cpu_quota: CpuQuota | None = None
    tasks_max: TasksMax | None = None
    io_weight: IoWeight | None = None
    network: NetworkKind = "sealed"
    allowed_hosts: list[HostText] = Field(default_factory=list, max_length=200)
    repos: list[RepositoryName] = Field(default_factory=list, max_length=20)
    nix_daemon: bool = False
    turn_timeout: Annotated[float, Field(gt=0, le=86_400)] = 3_600.0
    max_steps: Annotated[int, Field(ge=1, le=10_000)] = 200
    idle_timeout: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    binary_files: list[FilePattern] = Field(default_factory=list, max_length=20)
    binds: list[BindName] = Field(default_factory=list, max_length=20)
    devices: list[DeviceName] = Field(default_factory=list, max_length=3)
    services: list[ServiceName] = Field(default_factory=list, max_length=MAX_SERVICES)
    secrets: list[SecretName] = Field(default_factory=list, max_length=MAX_SECRETS)
    environment: list[VariablePattern] = Field(default_factory=list, max_length=100)
    mcp_servers: dict[McpName, McpServer] = Field(default_factory=dict, max_length=20)
    script: list[ScriptRule] = Field(default_factory=list, max_length=100)

    @field_validator("features")
    @classmethod
    def _are_of_a_provider(cls, features: list[ModelFeature], info: ValidationInfo) -> list[ModelFeature]:
        """Refuse features without a provider, whose they are."""
        if features and "provider" in info.data and info.data["provider"] is None:
            raise PydanticCustomError("no_provider", "features are those of a provider: name one with `provider`")
        return features

    @model_validator(mode="before")
    @classmethod
    def _default_tools(cls, given: Any) -> Any:
        """Add the tools for the web to the default of an agent that has the host's network."""
        if isinstance(given, dict) and "tools" not in given and given.get("network") == "host":
            return {**given, "tools": [*DEFAULT_TOOLS, *WEB_TOOLS]}
        return given

    @property
    def names_network(self) -> bool:
        """True if the settings name the network, so that it does not depend on the default."""
        return "network" in self.model_fields_set

    def with_host_default(self) -> AgentConfig:
        """Return the settings as they were meant while the host's network was the default."""
        if self.names_network:
            return self
        tools = self.tools if "tools" in self.model_fields_set else [*DEFAULT_TOOLS, *WEB_TOOLS]
        return self.model_copy(update={"network": "host", "tools": tools})
