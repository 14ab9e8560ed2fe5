"""The registered repositories as the deployment of agents needs them, which knows nothing of the registry."""

from __future__ import annotations

import shlex
from functools import partial

from hive_core.agents.repositories import FindRepository, KnownRepository
from hive_core.errors import HiveError
from hive_core.work.repositories.registry import Repositories


def find_in(repositories: Repositories) -> FindRepository:
    """Return the function that finds a repository by its name."""
    return partial(_find, repositories)


def _find(repositories: Repositories, name: str) -> KnownRepository | None:
    try:
        record = repositories.record(name)
    except HiveError:
        return None
    checks = tuple(shlex.join(check.argv) for check in record.checks)
    return KnownRepository(name, repositories.mirror(name), record.branch, record.instructions, checks)
