"""Refs of upstreams: reading, names, and the file of a mirror."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.work.repositories.mirror import create_mirror
from hive_core.work.repositories.refs import is_usable, read_offered, replace_upstream_refs, upstream_refs
from tests.helpers.git_repos import git

ID = "1" * 40


@given(st.text(max_size=30))
def test_usable_names_are_harmless(name: str) -> None:
    """A name that is used is one printable line and no way out of a directory."""
    ref = f"refs/heads/{name}"
    if is_usable(ref):
        assert ref.isprintable() and "//" not in ref and " " not in ref and not ref.endswith("/")
        assert {".", "..", ""}.isdisjoint(ref.split("/"))


def test_conflicts_and_strange_names_are_left_out() -> None:
    """Of a branch and those below it the first is held, and what is left out is counted."""
    lines = [f"{ID}\trefs/heads/{name}" for name in ("a", "a/b", "a-b", "x..y", "ok/ü")]
    lines += ["ref: refs/heads/a\tHEAD", f"{ID}\tHEAD", f"{ID}\trefs/tags/v1^{{}}", f"{ID}\trefs/pull/1/head"]
    found = read_offered(lines, 100)
    assert set(found.refs) == {f"refs/upstream/heads/{name}" for name in ("a", "a-b", "ok/ü")}
    assert (found.default, found.left_out) == ("a", 2)


def test_too_many_refs_are_refused() -> None:
    """The limit counts branches and tags."""
    with pytest.raises(HiveError) as refused:
        read_offered([f"{ID}\trefs/heads/b{number}" for number in range(11)], 10)
    assert refused.value.code == "too_many_refs"


def test_other_refs_of_a_mirror_stay(tmp_path: Path) -> None:
    """Upstream's refs are replaced as a whole; the registered branch and landed commits are not touched."""
    mirror = tmp_path / "web.git"
    create_mirror(mirror)
    tree = git(mirror, "hash-object", "-w", "-t", "tree", "--stdin", feed=b"")
    commits = [git(mirror, "commit-tree", tree, "-m", str(number)) for number in range(2)]
    git(mirror, "update-ref", "refs/heads/main", commits[0])
    git(mirror, "pack-refs", "--all")
    first = {"refs/upstream/heads/main": commits[0], "refs/tags/v1": commits[0], "refs/upstream/heads/ü": commits[1]}
    assert replace_upstream_refs(mirror, first) == 3
    second = {"refs/upstream/heads/main": commits[1]}
    assert replace_upstream_refs(mirror, second) == 3
    assert upstream_refs(mirror) == second
    assert replace_upstream_refs(mirror, second) == 0
    held = git(mirror, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    assert held == [f"refs/heads/main {commits[0]}", f"refs/upstream/heads/main {commits[1]}"]
