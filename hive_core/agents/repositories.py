"""The repositories that agents work on, as far as this package needs them; the registry is given by the daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.protocol import AgentConfig
from hive_core.runtimes.base import RepositoryMount


@dataclass(frozen=True)
class KnownRepository:
    """A registered repository.

    `instructions` is True if its CLAUDE.md, AGENTS.md and skills may reach agent CLIs. `checks` are the commands that
    have to succeed on submitted work.
    """

    name: str
    mirror: Path
    branch: str
    instructions: bool = True
    checks: tuple[str, ...] = ()


FindRepository = Callable[[str], KnownRepository | None]
"""Returns the repository of a name, None if none is registered under it."""


def find_none(_name: str) -> None:
    """Return None: the registry of a hive without repositories."""


def find_mounts(config: AgentConfig, find: FindRepository) -> tuple[RepositoryMount, ...]:
    """Return the mirrors that the configuration asks for; those that are no longer registered are left out."""
    found = (find(name) for name in dict.fromkeys(config.repos))
    return tuple(RepositoryMount(each.name, each.mirror) for each in found if each is not None)


def check_repositories(config: AgentConfig, find: FindRepository) -> None:
    """Raise `unknown_repository` for the first repository of a configuration that is not registered."""
    for name in config.repos:
        if find(name) is None:
            raise HiveError(
                "unknown_repository",
                f"agent.toml: repos: no repository {name} is registered",
                hint=f"an operator registers it with: hive-c0re repo add {name} URL; hive-c0re repo list shows all",
            )
