"""The configuration of a commit, and the cache of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.gate.records import commit
from hive_core.gate.records.commit import read_config
from hive_core.infra.git.objects import Person
from hive_core.infra.git.repository import Repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """An empty repository, with an empty cache of two entries."""
    monkeypatch.setattr(commit, "_configs", {})
    monkeypatch.setattr(commit, "_CACHED_CONFIGS", 2)
    with Repository.init(tmp_path / "ada.git") as repository:
        yield repository


@pytest.fixture
def reads(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The number of times that each commit was read from the repository."""
    counts, read = Counter[str](), repository.read

    def counted(sha: str, path: str, limit: int) -> bytes | None:
        counts[sha] += 1
        return read(sha, path, limit)

    monkeypatch.setattr(repository, "read", counted)
    return counts


def write(repository: Repository, toml: str | None) -> str:
    """Store a commit with that agent.toml, or without one; returns its id."""
    files = {"prompt.md": b"You help.\n"} | ({} if toml is None else {"agent.toml": toml.encode()})
    return repository.write_commit(files, parents=[], author=Person("ada", "ada@hive"), when=1, message="A change\n")


def test_a_config_is_read_once(repository: Repository, reads: Counter[str]) -> None:
    """A commit's configuration is read from git the first time only, and each commit has its own."""
    small, large = write(repository, 'model = "small"'), write(repository, 'model = "large"')
    for _ in range(3):
        assert read_config(repository, small).model == "small"
        assert read_config(repository, large).model == "large"
    assert reads == {small: 1, large: 1}


def test_the_cache_is_bounded(repository: Repository, reads: Counter[str]) -> None:
    """The oldest entry makes room for a new one, and is read again when it is needed."""
    first, *others = [write(repository, f'model = "m{number}"') for number in range(3)]
    for sha in (first, *others, *others, first):
        read_config(repository, sha)
    assert reads == {first: 2, others[0]: 1, others[1]: 1}


def test_callers_share_nothing(repository: Repository) -> None:
    """A caller that changes the configuration changes it for no other caller."""
    sha = write(repository, 'tools = ["Read"]')
    read_config(repository, sha).tools.append("Bash")
    assert read_config(repository, sha).tools == ["Read"]


@pytest.mark.parametrize(("toml", "code"), [("model = 1", "bad_agent_toml"), (None, "bad_tree")])
def test_a_wrong_config_is_always_refused(repository: Repository, toml: str | None, code: str) -> None:
    """A commit without an acceptable agent.toml is refused each time, as at the intake."""
    sha = write(repository, toml)
    for _ in range(2):
        with pytest.raises(HiveError) as refusal:
            read_config(repository, sha)
        assert refusal.value.code == code
