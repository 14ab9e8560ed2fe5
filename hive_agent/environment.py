"""The directories, deployment and version of this harness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class AgentEnvironment:
    """The directories of one agent as its harness sees them.

    `deployment` is the number of the configuration that the runtime has started it on, None where it was not told.
    `parent_pid` is the daemon's, and only set where the harness runs as its plain child; in a sandbox or container
    it is None. `variables` is the whole environment, from which a backend picks what its program may see.
    """

    run: Path
    state: Path
    claude: Path
    config: Path
    deployment: int | None
    parent_pid: int | None
    variables: Mapping[str, str]

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> AgentEnvironment:
        """Take the paths from `variables`, each with the container's own as default."""
        return cls(
            run=Path(variables.get("HIVE_AGENT_RUN") or "/run/hive"),
            state=Path(variables.get("HIVE_AGENT_STATE") or "/state"),
            claude=Path(variables.get("HIVE_AGENT_CLAUDE") or "/root/.claude"),
            config=Path(variables.get("HIVE_AGENT_CONFIG") or "/config"),
            deployment=_number(variables.get("HIVE_AGENT_DEPLOYMENT", "")),
            parent_pid=_number(variables.get("HIVE_PARENT_PID", "")),
            variables=variables,
        )

    @property
    def core_socket(self) -> Path:
        return self.run / "core.sock"

    @property
    def temporary(self) -> Path:
        """Temporary files of this agent's programs; on the agent's disk, not on a shared /tmp."""
        return self.state / "tmp"


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def version() -> str:
    """The installed version; `0+source` where the code runs without being installed."""
    try:
        return metadata.version("hyperhive")
    except metadata.PackageNotFoundError:
        return "0+source"
