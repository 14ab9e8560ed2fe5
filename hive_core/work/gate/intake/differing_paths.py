"""The number of paths in which a small change differs from its base, without a process of git for it.

Most work changes a few files in a few directories, and the trees of these are read quicker than git starts. For all
else git is asked: see `Import.count_differing_paths`.
"""

from __future__ import annotations

from collections.abc import Sequence

from hive_core.gate.intake.tree_check import TreeEntry, entries
from hive_core.infra.git.cat_file import ObjectReader

_MOST_TREES = 200
_MOST_BYTES = 1024 * 1024
"""Size of all trees that are read, in bytes: they are taken apart on the event loop."""
_TREE_MODE = b"40000"

_Pair = tuple[str | None, str | None]
"""The trees of one directory before and after a change; None where there is no such directory."""


async def count_few_paths(objects: ObjectReader, old: str, new: str) -> int | None:
    """Return the number of paths in which two trees differ, or None if more has to be read than for a small change."""
    paths = trees = size = 0
    waiting: list[_Pair] = [(old, new)] if old != new else []
    while waiting:
        ids = [sha for pair in waiting for sha in pair if sha is not None]
        trees += len(ids)
        if trees > _MOST_TREES:
            return None
        headers = await objects.headers(ids)
        size += sum(header.size for header in headers if header is not None)
        if size > _MOST_BYTES:
            return None
        contents = await _read(objects, ids)
        pairs, waiting = waiting, []
        for before, after in pairs:
            found, below = compare(contents.get(before or "", b""), contents.get(after or "", b""))
            paths += found
            waiting += below
    return paths


def compare(old: bytes, new: bytes) -> tuple[int, list[_Pair]]:
    """Compare two trees, as git stores them; an empty one stands for none.

    Returns the number of files that differ, as `git diff-tree` counts them, and the directories that do.
    """
    before = {entry.name: entry for entry in entries(old)}
    after = {entry.name: entry for entry in entries(new)}
    files, below = 0, []
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if one == other:
            continue
        pair = _directory(one), _directory(other)
        # A file that has become a directory, or the other way round, is one path besides those in the directory.
        files += any(entry is not None and entry.mode != _TREE_MODE for entry in (one, other))
        if pair[0] != pair[1]:
            below.append(pair)
    return files, below


def _directory(entry: TreeEntry | None) -> str | None:
    return entry.sha if entry is not None and entry.mode == _TREE_MODE else None


async def _read(objects: ObjectReader, ids: Sequence[str]) -> dict[str, bytes]:
    """Read objects that exist; others are as if they were empty."""
    found: dict[str, bytes] = {}
    async for number, piece in objects.pieces(ids):
        found[ids[number]] = found.get(ids[number], b"") + piece
    return found
