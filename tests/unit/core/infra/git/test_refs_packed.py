"""Looking one packed ref up without reading all of them."""

from __future__ import annotations

import itertools

import pytest

from hive_core.infra.git.repository import Repository
from tests.unit.core.infra.git.builders import Plain, plant, tag


@pytest.mark.parametrize("count", range(6))
@pytest.mark.parametrize("is_sorted", [True, False])
def test_each_packed_ref_is_found(
    repository: Repository, commit: str, plain: Plain, count: int, is_sorted: bool
) -> None:
    """Every packed ref is found, wherever it stands among annotated and plain ones, and no other; an older git, which
    does not say that it sorts, included."""
    names = [f"built/{number}" for number in (1, 10, 100, 2, 20)][:count]
    held = {}
    for name, annotated in zip(names, itertools.cycle([True, True, False]), strict=False):
        if annotated:
            (held[name],) = plant(repository, tag(name, commit))
        else:
            plain("tag", name, commit)
            held[name] = commit
    plain("pack-refs", "--all", "--prune")
    file = repository.path / "packed-refs"
    if not is_sorted:
        head, *lines = file.read_text().splitlines(keepends=True)
        file.write_text(head.replace(" sorted", "") + "".join(lines))
    assert not (repository.path / "refs/heads/main").exists()
    assert repository.main() == commit
    assert {name: repository.resolve(f"refs/tags/{name}") for name in names} == held
    for name in ("aaa/1", "built/0", "built/1000", "built/11", "built/3", "zzz/1"):
        assert repository.resolve(f"refs/tags/{name}") is None


def test_no_packed_refs_are_none(repository: Repository) -> None:
    """A file without a ref, or an empty one, holds nothing."""
    for content in ("", "# pack-refs with: peeled fully-peeled sorted \n"):
        (repository.path / "packed-refs").write_text(content)
        assert repository.resolve("refs/tags/built/1") is None
        assert repository.tags() == {}


def test_many_tags_are_read_like_few(repository: Repository, commit: str) -> None:
    """Tags asked for by name come in the order asked for, without those that do not exist, few or many."""
    plant(repository, *(tag(f"built/{number}", commit) for number in range(30)))
    for count in (3, 30):
        asked = [f"built/{number}" for number in reversed(range(count))]
        found = repository.read_tags([*asked, "gone/1", "no ref at all"])
        assert [tag.name for tag in found] == asked
