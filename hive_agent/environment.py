"""The directories, deployment and version of this harness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class RelayAddress:
    """The port of the loopback on which the relay accepts the agent's calls, and the key that it asks for."""

    port: int
    key: str = field(repr=False)


@dataclass(frozen=True)
class AgentEnvironment:
    """The directories of one agent, as seen by its harness. `code` has its clones of repositories.

    `deployment` is the number of the deployment that the runtime has started, None if unknown. `parent_pid` is the
    daemon's pid if the harness is its child without a sandbox or container, else None. `variables` is the whole
    environment, from which a backend selects the variables of its program. `relay` is where its model is called, None
    if it does not go through the relay.
    """

    run: Path
    state: Path
    claude: Path
    config: Path
    code: Path
    deployment: int | None
    parent_pid: int | None
    variables: Mapping[str, str]
    relay: RelayAddress | None = None

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> AgentEnvironment:
        """Read the paths from `variables`; the defaults are those of a container."""
        return cls(
            run=Path(variables.get("HIVE_AGENT_RUN") or "/run/hive"),
            state=Path(variables.get("HIVE_AGENT_STATE") or "/state"),
            claude=Path(variables.get("HIVE_AGENT_CLAUDE") or "/root/.claude"),
            config=Path(variables.get("HIVE_AGENT_CONFIG") or "/config"),
            code=Path(variables.get("HIVE_AGENT_CODE") or "/code"),
            deployment=_number(variables.get("HIVE_AGENT_DEPLOYMENT", "")),
            parent_pid=_number(variables.get("HIVE_PARENT_PID", "")),
            variables=variables,
        )

    @property
    def core_socket(self) -> Path:
        return self.run / "core.sock"

    @property
    def programs(self) -> Path:
        """The directory with the records of long-running programs."""
        return self.state / "programs"

    @property
    def secrets(self) -> Path:
        """The directory with the agent's secrets, which changes while the harness runs; it may not exist."""
        return Path(self.variables.get("HIVE_AGENT_SECRETS") or self.run / "secrets")

    @property
    def temporary(self) -> Path:
        """The directory for temporary files of this agent's programs, instead of a shared /tmp."""
        return self.state / "tmp"


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def version() -> str:
    """The installed version; `0+source` if the code runs without being installed."""
    try:
        return metadata.version("hyperhive")
    except metadata.PackageNotFoundError:
        return "0+source"
