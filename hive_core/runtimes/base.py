"""What runs agents, as the rest of the daemon sees it: one small protocol for every runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from hive_core.layout import AgentPaths
from hive_core.protocol import Kind, Lifecycle, Limits, Usage


@dataclass(frozen=True)
class AgentSpec:
    """What a runtime needs to know to run one agent. `environment` is all that its harness gets, beside the paths.

    `closure` is what a build gave, `deployment` the number under which it was put in force; the harness is told the
    number and reports in with it. `applied` holds what the agent may see of the applied repositories: the manager the
    directory of all, another its own one. `limits` are within the operator's ceilings; `sealed` takes the network away.
    """

    name: str
    kind: Kind
    paths: AgentPaths
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    applied: Path | None = None
    closure: str = ""
    deployment: int = 0
    limits: Limits = field(default_factory=Limits)
    sealed: bool = False
    web_port: int = 0


@dataclass(frozen=True)
class BuildOrder:
    """A commit of an agent's applied repository that is to be built, tagged `proposal/<number>` there. Its content is
    the agent's and not to be trusted, but for what intake promises: plain files only, few and small, harmless names.
    """

    name: str
    kind: Kind
    number: int
    repository: Path
    commit: str


class BuildFailed(Exception):
    """The commit cannot be built; the text says why, for whoever proposed it."""


@dataclass(frozen=True)
class UnitState:
    """One agent's process or container at one moment.

    `exit_cause` says in words how the last one ended ("exit code 1", "killed by SIGKILL"), empty if none did.
    `restarts` counts starts after a crash since the agent was started on request. `oom_killed` is news and no state:
    the agent's limit of memory was reached, and a process of its was killed for that; it goes on.
    """

    name: str
    lifecycle: Lifecycle
    pid: int | None = None
    started_at: datetime | None = None
    restarts: int = 0
    exit_cause: str = ""
    oom_killed: bool = False


class Runtime(Protocol):
    """Runs agents. All methods may be called side by side for different agents, and one after another for one.

    `confinement` says in words how agents are confined, and if they are not, why. `bubblewrap` is the program that
    confines git at intake, where it works. `limiting` says whether the limits of a spec are enforced.
    """

    name: str
    confinement: str
    bubblewrap: str | None
    limiting: bool

    @property
    def build_problem(self) -> str:
        """Why nothing can be built here, as the last trial of a build has shown; empty if it can, or is not known."""
        ...

    async def check_can_build(self) -> None:
        """Raise HiveError with what is missing and what to do, if no commit at all can be built here now."""

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """Build a commit: its closure, which no later build changes. Building the same again gives the same.

        `say` is called with each line of progress. Changes nothing that runs. Raises BuildFailed, and HiveError if the
        runtime cannot build at all.
        """

    async def compare(self, old: str | None, new: str) -> list[str]:
        """What differs between two closures, in words, a line each; `old` of None is an empty one."""

    async def has(self, closure: str) -> bool:
        """Whether the closure can still be activated."""

    async def outdated(self, closure: str) -> bool:
        """Whether the closure was built with an older hyperhive than a build would take now; False if nobody knows."""

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Closures of the agent other than these may be removed."""

    async def activate(self, spec: AgentSpec) -> None:
        """Run the agent on `spec.closure`: what runs of it is stopped first. Raises HiveError if that is gone."""

    async def start(self, spec: AgentSpec) -> None:
        """Run the agent and keep it running (restart it after a crash). Nothing happens if it runs already, on the
        closure and as the deployment of the spec: what an earlier daemon left half done is put right.
        """

    async def limit(self, name: str, limits: Limits) -> None:
        """Put limits in force at once, without a restart, until the agent is activated anew; None lifts one.

        Raises HiveError `limits_not_enforced`, `not_running`.
        """

    async def limits(self, name: str) -> Limits:
        """The limits in force; none where there are none, or nothing runs."""

    async def usage(self, name: str) -> Usage:
        """What the agent uses at the moment."""

    async def stop(self, name: str) -> None:
        """Stop the agent and all of its processes: politely, then by force. Nothing happens if it is stopped."""

    async def destroy(self, name: str) -> None:
        """Stop the agent and forget it. The agent's directories are not the runtime's to remove."""

    def units(self) -> list[UnitState]:
        """Every agent that was started since the daemon began and not destroyed."""

    def watch(self) -> AsyncIterator[UnitState]:
        """Every change from now on, in order per agent; ends when the runtime is closed."""

    async def read_log(
        self, name: str, log: Path, lines: int, cursor: str | None, wait_seconds: float
    ) -> tuple[list[str], str]:
        """The log's last `lines`, or what came after `cursor` (waiting for it); and the cursor to go on with."""

    async def close(self) -> None:
        """Release everything. Agents that cannot outlive the daemon are stopped; containers go on."""
