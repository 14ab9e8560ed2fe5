"""The interface of the runtimes, which run agents, for the rest of the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from hive_core.layout import AgentPaths
from hive_core.protocol import AgentConfig, Kind, Lifecycle, Limits, Usage
from hive_core.runtimes.checks.order import CheckRun
from hive_core.runtimes.disk_quotas import DiskQuotas


@dataclass(frozen=True)
class RepositoryMount:
    """A repository that an agent sees: its name, and its mirror on the host, which only the hive writes."""

    name: str
    mirror: Path


@dataclass(frozen=True)
class HostBind:
    """A directory of the host that an agent sees as /binds/<name>. The caller has checked its path."""

    name: str
    path: Path
    writable: bool


@dataclass(frozen=True)
class AgentSpec:
    """The specification of one agent for a runtime. `environment` is all that its harness gets beside the paths.

    `closure` is the output of a build, `deployment` the number of its deployment, with which the harness registers.
    `applied` is the part of the applied repositories that the agent may see: the directory of all for the manager,
    the own repository for other agents. `deployed` is the directory in which a runtime keeps the files of the
    deployment's commit, if its closures do not have them; the runtime makes it. `limits` are within the operator's
    ceilings; `dns` is the directory with the host's resolv.conf, and `programs` that with the hive's own programs,
    which only the local runtime needs. `repositories` are those whose mirrors the agent sees, read-only. `secrets`
    is the directory with the agent's secrets, and `devices` are the nodes of devices of the host. `sealed` removes
    the network; `gateways` are then the ports of the agent's loopback on which its harness listens for the gateways to
    the world, by purpose. `services` are the addresses at which the agent reaches services of the host, by name.
    `nix_daemon` shows the socket of the host's Nix daemon.
    """

    name: str
    kind: Kind
    paths: AgentPaths
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    applied: Path | None = None
    closure: str = ""
    deployment: int = 0
    deployed: Path | None = None
    limits: Limits = field(default_factory=Limits)
    sealed: bool = False
    gateways: Mapping[str, int] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    nix_daemon: bool = False
    web_port: int = 0
    dns: Path | None = None
    programs: Path | None = None
    repositories: tuple[RepositoryMount, ...] = ()
    secrets: Path | None = None
    binds: tuple[HostBind, ...] = ()
    devices: tuple[Path, ...] = ()


@dataclass(frozen=True)
class BuildOrder:
    """A commit of an agent's applied repository to build, tagged `proposal/<number>` there. Its content is untrusted;
    intake guarantees plain files only, few and small, with harmless names, and a valid `agent.toml`.

    `allowed_fetches` are the store paths of the derivations that an operator has allowed to fetch from the network.
    """

    name: str
    kind: Kind
    number: int
    repository: Path
    commit: str
    allowed_fetches: frozenset[str] = frozenset()


class BuildFailed(Exception):
    """The commit cannot be built; the text is the reason for the author of the proposal."""


@dataclass(frozen=True)
class Fetch:
    """A fixed-output derivation that a build needs and that no substituter has: a fetch from the network.

    `hash` is that of the output, `derivation` the store path of the derivation, and `program` its builder:
    "builtin:fetchurl" where Nix itself fetches. `urls` are those that the derivation names, none if it names none; a
    program may contact other hosts.
    """

    name: str
    urls: tuple[str, ...]
    hash: str
    derivation: str
    program: str


def count_fetches(fetches: Sequence[Fetch]) -> str:
    """Return the number of fetches in words."""
    return "1 fetch from the network" if len(fetches) == 1 else f"{len(fetches)} fetches from the network"


class FetchesMissing(BuildFailed):
    """The commit cannot be built without fetches from the network that no operator has allowed.

    The text only counts them: it holds no words of the configuration, which the fetches are full of.
    """

    def __init__(self, fetches: Sequence[Fetch]) -> None:
        super().__init__(f"the build needs {count_fetches(fetches)} that no operator has allowed")
        self.fetches = tuple(fetches)


WITH_PROCESSES: frozenset[Lifecycle] = frozenset({"starting", "running", "stopping"})
"""The lifecycles in which an agent has processes; in the others all of them have ended."""


@dataclass(frozen=True)
class UnitState:
    """The state of one agent's process or container at one moment.

    `exit_cause` describes the end of the last run in words ("exit code 1", "killed by SIGKILL"), or why a start could
    not be tried; it is empty while there are processes, or if nothing has ended. `restarts` counts starts after a crash
    since the agent was started on request. `run` is the number of the present or the last run, 0 if there was none.
    `since` is the time of the last change of the lifecycle. `oom_killed` is an event, not a state: a process of the
    agent was killed because its memory limit was reached; the agent goes on.

    Raises ValueError for a combination that cannot be, so that no part of an earlier state is left in a later one.
    """

    name: str
    lifecycle: Lifecycle
    pid: int | None = None
    started_at: datetime | None = None
    restarts: int = 0
    exit_cause: str = ""
    oom_killed: bool = False
    run: int = 0
    since: datetime = field(default_factory=lambda: datetime.now(UTC), compare=False)

    def __post_init__(self) -> None:
        if self.has_processes and self.exit_cause:
            raise ValueError(f"{self.lifecycle} has no cause of an end")
        if not self.has_processes and (self.pid is not None or self.started_at is not None):
            raise ValueError(f"{self.lifecycle} has no process")

    @property
    def has_processes(self) -> bool:
        """Return True if the agent has processes, or is about to have them."""
        return self.lifecycle in WITH_PROCESSES

    def change(
        self,
        lifecycle: Lifecycle,
        *,
        pid: int | None = None,
        started_at: datetime | None = None,
        restarts: int | None = None,
        exit_cause: str = "",
    ) -> UnitState:
        """Return the next state of the same agent. Of this state it keeps the name, and `restarts` unless given."""
        begins = lifecycle in WITH_PROCESSES and not self.has_processes
        return UnitState(
            self.name,
            lifecycle,
            pid,
            started_at,
            self.restarts if restarts is None else restarts,
            exit_cause,
            run=self.run + begins,
        )


class Runtime(Protocol):
    """Runs agents. Methods may be called at the same time for different agents, but not for one agent.

    `confinement` describes the confinement of agents in words, or says why there is none. `bubblewrap` is the program
    that confines git at intake, where it works. `limiting` is True if the limits of a spec are enforced, but for that
    of the disk, which `disks` enforces where the file systems have quotas. `sealing` says what a sealed network is, or
    why it is refused. `unsealed` is True if sealed agents have the host's network here, as the settings allow.
    """

    name: str
    confinement: str
    bubblewrap: str | None
    limiting: bool
    unsealed: bool
    sealing: str
    disks: DiskQuotas

    def check_settings(self, config: AgentConfig) -> None:
        """Raise HiveError if a setting cannot be enforced here that an agent must not run without.

        Limits are none of these: they are ignored where nothing enforces them.
        """

    def missing_programs(self, packages: Sequence[str]) -> list[str]:
        """Return which of these packages of nixpkgs agents do not have here; none if agent.nix provides them."""
        ...

    @property
    def build_problem(self) -> str:
        """The reason why nothing can be built here, from the last trial build; empty if it can or is not known."""
        ...

    async def check_can_build(self) -> None:
        """Raise HiveError with what is missing and what to do, if nothing can be built here now."""

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """Build a commit; returns its closure, which no later build changes. The same commit gives the same closure.

        `say` is called with each line of progress. Changes nothing that runs. Raises BuildFailed, also if the files
        that it has used are not those of the commit; HiveError if the runtime cannot build at all; FetchesMissing if it
        needs fetches that `order` does not allow.
        """

    async def effect(self, order: BuildOrder) -> str:
        """Return a token of what the system of a commit does. Nothing is built.

        Two orders of one agent with equal tokens give the same system. The files of the configuration that are not used
        in it are no part of it, and the agent finds them all at HIVE_AGENT_DEPLOYED. Raises BuildFailed and HiveError.
        """

    async def compare(self, old: str | None, new: str) -> list[str]:
        """Return the differences of two closures in words, one per line; `old` of None is an empty one."""

    async def run_check(self, run: CheckRun, say: Callable[[str], None]) -> str:
        """Run a check of proposed work in a sandbox without network; returns why it failed, "" if it passed.

        The reason is the end of a sentence about the check. `say` is called with each line of its output. No process of
        it is left when this returns, also after a cancellation. Raises HiveError `cannot_check` if nothing can confine
        it here, `closure_gone`.
        """

    async def has(self, closure: str) -> bool:
        """Return True if the closure can still be activated."""

    async def outdated(self, closure: str) -> bool:
        """Return True if a build now would use a newer hyperhive than the closure; False if that is not known."""

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Allow the removal of the agent's closures other than these."""

    async def activate(self, spec: AgentSpec) -> None:
        """Stop the agent if it runs, and run it on `spec.closure`. Raises HiveError if that no longer exists."""

    async def start(self, spec: AgentSpec) -> None:
        """Run the agent and restart it after crashes. Nothing happens if it runs already on the closure and as the
        deployment of the spec; work that an earlier daemon left unfinished is completed.
        """

    async def limit(self, name: str, limits: Limits) -> None:
        """Change limits at once, without a restart, until the next activation; None removes one.

        Raises HiveError `limits_not_enforced`, `not_running`; the caller checks that `disks` can enforce `disk_max`.
        """

    async def limits(self, name: str) -> Limits:
        """Return the active limits; none if there are none or the agent does not run."""

    async def usage(self, name: str) -> Usage:
        """Return the resources that the agent uses at the moment."""

    async def stop(self, name: str) -> None:
        """Stop the agent and all of its processes, by force after a time. Nothing happens if it is stopped."""

    async def destroy(self, name: str) -> None:
        """Stop the agent and forget it. The caller removes the agent's directories."""

    def units(self) -> list[UnitState]:
        """Return every agent that was started since the start of the daemon and not destroyed."""

    def unit(self, name: str) -> UnitState | None:
        """Return the state of one of `units`, None if the agent is none of them."""

    def watch(self) -> AsyncIterator[UnitState]:
        """Subscribe to every change from now on, in order per agent, until the runtime is closed."""

    async def read_log(
        self, name: str, log: Path, lines: int, cursor: str | None, wait_seconds: float
    ) -> tuple[list[str], str]:
        """Return the last `lines` of the log, or those after `cursor` (waiting for them), and the next cursor."""

    async def last_line(self, name: str) -> str:
        """Return the last line that the agent printed in its last run that has ended; empty if it printed none.

        That is the line of its harness, or of the program that should have started its container.
        """

    async def close(self) -> None:
        """Release everything. Agents that cannot outlive the daemon are stopped; containers go on."""
