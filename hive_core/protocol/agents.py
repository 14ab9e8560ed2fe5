"""Models of agents, as the operator and the manager see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import in_words
from hive_core.protocol.base import Answer, Backend, Query, Request, WaitSeconds
from hive_core.protocol.config.agent_config import AgentConfig, NetworkKind
from hive_core.protocol.config.limits import MemorySize
from hive_core.protocol.harness import Peer
from hive_core.protocol.models.budgets import LimitState
from hive_core.protocol.people.sign_in import PersonName

FilePath = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$"),
    in_words("it must be a path, without control characters"),
]
FileContent = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$"), in_words("it must be Base64")]
"""The bytes of a file in Base64."""


_NIX_WORDS = frozenset({"assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"})


def _no_nix_word(name: str) -> str:
    if not _NIX_WORDS.isdisjoint(name.split(".")):
        raise PydanticCustomError("bad_package", "it has a word of the language Nix in it, so it is no name")
    return name


PackageName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*){0,5}$", max_length=100),
    in_words("it must be the name of a package in nixpkgs, such as nodejs or python3Packages.requests"),
    AfterValidator(_no_nix_word),
]
"""An attribute path in nixpkgs."""


class SpawnRequest(Request):
    """Spawn an agent. The name `hm1nd` spawns the manager. `agent_nix` defaults to the template, with `packages`.

    `files` are other files of its configuration, by path, each in Base64; `executables` are the paths of those that are
    programs. `owner` is the person to whom it will belong; a person's own agent by default, the operator's nobody's.
    """

    name: str
    owner: PersonName | None = None
    config: AgentConfig = AgentConfig()
    packages: list[PackageName] = Field(default_factory=list, max_length=100)
    prompt: Annotated[str, StringConstraints(max_length=100_000)] = ""
    agent_nix: Annotated[str, StringConstraints(max_length=1_000_000)] | None = None
    files: dict[FilePath, FileContent] = Field(default_factory=dict, max_length=2_000)
    executables: list[FilePath] = Field(default_factory=list, max_length=2_000)
    start: bool = True


class AgentStatus(Peer):
    """An agent as the operator sees it. All is so now: nothing is left of an earlier run of its process or harness.

    `detail` is the harness's own explanation of `state`; `state_since` is the time since when it is in that state, and
    `goes_on_at` the one at which it tries again by itself after a failure, as it says.
    `exit_cause` says how the last run ended, or why none could begin; it is empty while the agent runs. `crashes`
    counts the crashes in a row since the agent was last ready, `last_crash` is the cause of the last of them, and
    `last_line` what its programs printed last before it. `restarts` counts all starts after crashes since it was
    started on request. `page_problem` says why the agent's page is not on `web_port`; the hive tries again until it
    is. `unacked` messages wait for it. `needs_update` is true if its closure was built with an older hyperhive than the
    hive's own. `disk_max` is the quota that the kernel enforces for all that the agent can write, None without one, and
    `disk_problem` says why there can be none; both are known from the agent's first start under this daemon on.
    `network` is that of its configuration. `network_implied` is true if it is the host's only because that was the
    default once, and `unsealed` if it is sealed and nothing seals it, so that it has the host's network. `nix_daemon`
    is true if it may use the host's Nix daemon.

    `network_rules` counts the rules of hosts in force for it, and `network_requests` its open requests. With
    `network_open` it reaches everything that is public, until `network_open_until`.

    `cost_today` is what its calls of models have cost today (UTC), in US dollars, None where there is no ledger; only
    an answer about one agent has the limits of its budget.

    `services`, `repos` and `secrets` are the names of those that its configuration asks for. `owner` is the person to
    whom it belongs, None if it is everybody's.
    """

    backend: Backend
    model: str | None
    detail: str
    state_since: datetime | None
    goes_on_at: datetime | None = None
    started_at: datetime | None
    pid: int | None
    restarts: int
    exit_cause: str
    crashes: int = 0
    last_crash: str = ""
    last_line: str = ""
    unacked: int
    web_port: int
    page_problem: str = ""
    deployment: int
    confinement: str
    needs_update: bool = False
    disk_max: MemorySize | None = None
    disk_problem: str = ""
    network: NetworkKind = "sealed"
    network_implied: bool = False
    unsealed: bool = False
    network_open: bool = False
    network_open_until: datetime | None = None
    network_rules: int = 0
    network_requests: int = 0
    cost_today: float | None = None
    budget: list[LimitState] = Field(default_factory=list)
    services: list[str] = Field(default_factory=list)
    repos: list[str] = Field(default_factory=list)
    secrets: list[str] = Field(default_factory=list)
    nix_daemon: bool = False
    owner: str | None = None


class SpawnAnswer(AgentStatus):
    """The new agent. `warnings` names what in its settings is known to nobody, such as a mistyped tool.

    `notes` says what the hive has added to its configuration.
    """

    warnings: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class SpawnPreview(Answer):
    """The first files of an agent that is not yet made, by path; `warnings` and `notes` as in the answer to a spawn."""

    files: dict[str, str]
    warnings: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class AgentList(Answer):
    """All agents, the manager first."""

    agents: list[AgentStatus]


class AgentActivity(Answer):
    """The present work of a running agent, as its harness tells it, and the resources that it used lately.

    `activity` is one line about its running turn, `context` the tokens of `window` that its conversation takes, and
    `model` the one in use: all of these are the agent's words. `memory` are samples of its memory in bytes, `processor`
    of its processor time in percent of one core, the newest last; both are empty where the runtime cannot tell.
    `memory_max` is in bytes and `cpu_quota` in percent: the limits in force, None without one.
    """

    agent: str
    activity: str = ""
    turn_started_at: datetime | None = None
    last_turn_at: datetime | None = None
    model: str | None = None
    context: int = 0
    window: int = 0
    memory: list[int] = Field(default_factory=list)
    processor: list[float] = Field(default_factory=list)
    memory_max: int | None = None
    cpu_quota: int | None = None


class ActivityList(Answer):
    """The running agents of which something is known, and who asked for each agent that there is.

    Samples are taken while somebody asks, at most one in `sample_seconds`.
    """

    agents: list[AgentActivity]
    spawned_by: dict[str, str]
    sample_seconds: float


class DestroyRequest(Request):
    """Destroy an agent. Its state directory and waiting messages stay unless `purge` is set."""

    purge: bool = False


class DestroyAnswer(Answer):
    """The result of a destroy. `dropped_messages` counts the unacknowledged messages that a purge removed."""

    name: str
    purged: bool
    dropped_messages: int


class KeptAgent(Answer):
    """A destroyed agent whose files are kept. `unacked` messages wait for an agent that is spawned under its name."""

    name: str
    unacked: int


class KeptList(Answer):
    """Destroyed agents whose files are kept, by name."""

    agents: list[KeptAgent]


class LogsQuery(Query):
    """Return the last `lines`, or wait for those after `cursor`, which is from an earlier answer."""

    lines: Annotated[int, Field(ge=1, le=10_000)] = 100
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = None
    wait_seconds: WaitSeconds = 0.0


class LogsAnswer(Answer):
    """Lines of a log; the next request continues at `cursor`."""

    lines: list[str]
    cursor: str
