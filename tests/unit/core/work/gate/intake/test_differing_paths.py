"""The count of paths in which two trees differ, against a model and against git."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from hive_core.infra.git.cat_file import ObjectHeader, ObjectReader
from hive_core.work.gate.intake.differing_paths import count_few_paths
from tests.unit.core.work.gate.work_hive import WorkHive, git

NAMES = st.sampled_from([b"a", b"b", b"c"])
FILES = st.sampled_from([(b"100644", "1"), (b"100644", "2"), (b"100755", "1"), (b"160000", "3")])
# A directory without files is in no commit that git makes, but hostile ones have it.
TREES = st.recursive(FILES, lambda below: st.dictionaries(NAMES, below, max_size=3), max_leaves=20)
Tree = dict[bytes, Any]


class Objects:
    """Trees by their ids, with the two requests of a reader that are needed."""

    def __init__(self) -> None:
        self._found: dict[str, bytes] = {}

    def store(self, tree: Tree) -> str:
        """Store a tree and those below it; returns its id."""
        content = b""
        for name, entry in sorted(tree.items()):
            is_tree = isinstance(entry, dict)
            mode, sha = (b"40000", self.store(entry)) if is_tree else (entry[0], entry[1] * 40)
            content += mode + b" " + name + b"\0" + bytes.fromhex(sha)
        sha = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self._found[sha] = content
        return sha

    async def headers(self, shas: Sequence[str]) -> list[ObjectHeader]:
        """The headers of trees."""
        return [ObjectHeader(sha, "tree", len(self._found[sha])) for sha in shas]

    async def pieces(self, shas: Sequence[str]) -> AsyncIterator[tuple[int, bytes]]:
        """The contents of trees."""
        for number, sha in enumerate(shas):
            yield number, self._found[sha]
            yield number, b""


def paths(tree: Tree) -> dict[bytes, object]:
    """All files below a tree by their paths."""
    found: dict[bytes, object] = {}
    for name, entry in tree.items():
        below = {name + b"/" + path: file for path, file in paths(entry).items()} if isinstance(entry, dict) else {}
        found |= below or ({} if isinstance(entry, dict) else {name: entry})
    return found


@given(st.dictionaries(NAMES, TREES, max_size=3), st.dictionaries(NAMES, TREES, max_size=3))
async def test_each_path_that_differs_counts_once(old: Tree, new: Tree) -> None:
    """The count is that of the paths whose file is another one, or in one of the trees only."""
    objects = Objects()
    before, after = paths(old), paths(new)
    differing = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    found = await count_few_paths(cast(ObjectReader, objects), objects.store(old), objects.store(new))
    assert found == len(differing)


async def test_many_trees_are_left_to_git() -> None:
    """Beyond a few hundred trees or a MiB of them nothing is counted, however few objects they are."""
    objects = Objects()
    tree: Tree = {b"x": (b"100644", "1")}
    for _ in range(40):
        tree = {b"a": tree, b"b": tree} if len(paths(tree)) < 500 else {b"a": tree}
    assert await count_few_paths(cast(ObjectReader, objects), objects.store({}), objects.store(tree)) is None
    wide = {str(number).encode(): (b"100644", "1") for number in range(40_000)}
    assert await count_few_paths(cast(ObjectReader, objects), objects.store({}), objects.store(wide)) is None


async def test_work_in_many_directories_is_taken(hive: WorkHive) -> None:
    """A change of more directories than are read one by one is counted by git, and taken."""
    sha = hive.commit({f"d{number}/file": str(number) for number in range(150)})
    work = await hive.until((await hive.submit(sha)).number, "built")
    assert len(work.files) == 150
    changed = hive.commit({f"d{number}/file": f"{number}+" for number in range(150)})
    work = await hive.until((await hive.submit(changed)).number, "built")
    assert len(work.files) == 150
    assert git(hive.clone(), "status", "--porcelain") == ""
