"""What the tests of the git layer share: a repository with one commit, and plain git to look at it with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from tests.unit.core.infra.git.builders import FILES, PERSON, Plain


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A repository whose `main` is at a first commit."""
    with Repository.init(tmp_path / "applied" / "ada.git") as made:
        commit = made.write_commit(FILES, parents=[], author=PERSON, when=1_700_000_000, message="first\n")
        made.update([RefChange("refs/heads/main", commit)])
        yield made


@pytest.fixture
def commit(repository: Repository) -> str:
    """The first commit."""
    found = repository.main()
    assert found is not None
    return found


@pytest.fixture
def plain(repository: Repository) -> Plain:
    """Run git as anybody would; a failure fails the test."""

    def run(*arguments: str, where: Path = repository.path, feed: bytes = b"") -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        environment |= {f"GIT_{who}_{what}": "t@hive" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        done = subprocess.run(
            ["git", "-C", str(where), *arguments], input=feed, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="surrogateescape")

    return run
