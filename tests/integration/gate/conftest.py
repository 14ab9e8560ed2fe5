"""Fixtures of the tests of the gate."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_core.gate.intake.import_commit import CommitImporter, IntakeLimits
from tests.helpers.git_repos import AgentRepositories

LIMITS = IntakeLimits(bytes=5 * 1024 * 1024, files=1_000)


@pytest.fixture(scope="session")
def _made() -> Iterator[Path]:
    """One place as it is at first, to be copied: a dozen commands of git are not needed for each test."""
    with tempfile.TemporaryDirectory(prefix="hive-gate-") as home:
        yield AgentRepositories.make(Path(home, "first")).home


@pytest.fixture
def repos(_made: Path) -> Iterator[AgentRepositories]:
    """An agent's repository with one commit, which is deployed."""
    with tempfile.TemporaryDirectory(prefix="hive-gate-") as home:
        yield AgentRepositories(Path(shutil.copytree(_made, Path(home, "place"))))


@pytest.fixture(params=["bubblewrap", "none"])
def confine(request: pytest.FixtureRequest) -> str | None:
    """How git is confined: the path of bwrap, or None."""
    if request.param == "none":
        return None
    found = shutil.which("bwrap")
    assert found, "bubblewrap is needed for these tests"
    return found


@pytest.fixture
def importer(repos: AgentRepositories, confine: str | None) -> CommitImporter:
    """An intake with the default limits."""
    return CommitImporter(confine, repos.scratch, LIMITS)
