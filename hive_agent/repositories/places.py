"""The places of the agent's repositories, and the working directory of its turns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hive_agent.environment import AgentEnvironment
from hive_agent.repositories.mirrors import read_mirrors
from hive_core.protocol import Profile


@dataclass(frozen=True)
class RepositoryPlace:
    """One repository of the agent.

    `mirror` is the hive's copy, which is read-only, and `clone` the agent's own. Work starts from `branch` of the
    mirror, on the branch `own` of the clone. `instructions` is True if its CLAUDE.md, AGENTS.md and skills may reach
    the agent CLI.
    """

    name: str
    branch: str
    mirror: Path
    clone: Path
    own: str
    instructions: bool


def find_places(profile: Profile, environment: AgentEnvironment) -> list[RepositoryPlace]:
    """Return the places of the repositories of agent.toml, in its order, without those whose mirror is not shown."""
    mirrors = read_mirrors(environment.variables)
    return [
        RepositoryPlace(
            each.name,
            each.branch,
            Path(mirrors[each.name]),
            environment.code / each.name,
            f"{profile.name}/work",
            each.instructions,
        )
        for each in profile.repositories
        if each.name in mirrors
    ]


@dataclass(frozen=True)
class Workplace:
    """The working directory of a turn, and the clone whose instructions the agent CLI may read, if any."""

    directory: Path
    instructed: Path | None = None


def find_workplace(profile: Profile, environment: AgentEnvironment, settings: Sequence[str] = ()) -> Workplace:
    """Return where the next turn runs: in the clone of the only repository, else where all clones are, else the state.

    `settings` are the paths in a repository that the agent CLI would obey if it ran there, whatever it is told. If the
    clone has one of them, the turn runs in the directory above it.
    """
    places = find_places(profile, environment)
    if not places or not environment.code.is_dir():
        return Workplace(environment.state)
    one = places[0] if len(places) == 1 and places[0].clone.is_dir() else None
    instructed = one.clone if one is not None and one.instructions else None
    if one is not None and not _has_any(one.clone, settings):
        return Workplace(one.clone, instructed)
    if _has_any(environment.code, settings):
        return Workplace(environment.state)
    return Workplace(environment.code, instructed)


def _has_any(directory: Path, names: Sequence[str]) -> bool:
    return any(os.path.lexists(directory / name) for name in names)
