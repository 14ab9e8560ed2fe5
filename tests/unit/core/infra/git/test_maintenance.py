"""Removal of what nothing needs any more from a repository."""

from __future__ import annotations

import os
from pathlib import Path

from hive_core.infra.git import maintenance
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from tests.unit.core.infra.git.builders import FILES, PERSON, Plain, plant, tag


def commit_of(repository: Repository, parent: str, name: str) -> str:
    """Write a commit with a file that cannot be packed."""
    files = {**FILES, name: os.urandom(10_000)}
    return repository.write_commit(files, parents=[parent], author=PERSON, when=5, message=name)


def pack(repository: Repository, plain: Plain, commit: str, base: str) -> Path:
    """Pack what a commit adds, as an import does, and remove the loose objects."""
    name = plain(
        "pack-objects", "--revs", "-q", str(repository.path / "objects/pack/pack"), feed=f"{commit}\n^{base}\n".encode()
    ).strip()
    plain("prune-packed", "-q")
    return repository.path / f"objects/pack/pack-{name}.pack"


def exists(repository: Repository, plain: Plain, commit: str) -> bool:
    return bool(plain("rev-list", "--ignore-missing", "-1", commit))


def test_what_is_reachable_stays(repository: Repository, commit: str, plain: Plain) -> None:
    """Packs without anything that a ref or a named commit reaches are removed; the others stay as they are."""
    tagged, named, left = (commit_of(repository, commit, name) for name in ("tagged", "named", "left"))
    packs = [pack(repository, plain, each, commit) for each in (tagged, named, left)]
    plant(repository, tag("built/1", tagged))
    torn = repository.path / "objects/pack/pack-torn.pack"
    torn.write_bytes(b"without an index")
    repository.collect_garbage([named])
    assert [path.exists() for path in (*packs, torn)] == [True, True, False, False]
    repository.collect_garbage([])
    assert exists(repository, plain, tagged) and not exists(repository, plain, named)
    plain("fsck", "--strict")


def test_mixed_packs_are_written_anew(repository: Repository, commit: str, plain: Plain) -> None:
    """A pack of which a part is needed loses the rest, as loose objects do; the size is that of what goes."""
    needed, other = (commit_of(repository, commit, name) for name in ("needed", "other"))
    repository.update([RefChange("refs/heads/main", needed, commit), RefChange("refs/tags/x/1", other)])
    plain("repack", "-a", "-d", "-q")
    assert len(list((repository.path / "objects/pack").glob("*.pack"))) == 1
    repository.revert([RefChange("refs/tags/x/1", other)])
    loose = commit_of(repository, commit, "loose")
    size = repository.bytes_of([other], [needed])
    assert 10_000 < size < 11_000
    asked = [needed, commit, other, "0" * 40]
    assert repository.reachable_commits([needed, "0" * 40], asked) == {needed, commit}
    before = maintenance.packed_bytes(repository.path)
    repository.collect_garbage([])
    assert not exists(repository, plain, other) and not exists(repository, plain, loose)
    assert exists(repository, plain, needed)
    assert before - maintenance.packed_bytes(repository.path) >= size
    plain("fsck", "--strict")


def test_any_number_of_objects(repository: Repository, commit: str, plain: Plain) -> None:
    """Thousands of commits and files, of which git prints megabytes, keep nothing from being removed."""
    files = "".join(f"M 100644 inline f{number}\ndata 1\n{number % 10}\n" for number in range(2_000))
    head = "committer a <a> 1700000000 +0000\ndata 1\nx\n"
    commits = "".join(f"commit refs/heads/main\n{head}\n" for _ in range(2_000))
    feed = f"commit refs/heads/main\n{head}from {commit}\n{files}\n{commits}"
    plain("fast-import", "--quiet", feed=feed.encode())
    main = repository.main() or ""
    assert repository.reachable_commits([main], [commit, "0" * 40]) == {commit}
    left = commit_of(repository, commit, "left")
    path = pack(repository, plain, left, commit)
    repository.collect_garbage([])
    assert not path.exists()
    assert exists(repository, plain, main)
