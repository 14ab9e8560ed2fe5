"""The diff of one changed file, for readers who look at a proposal file by file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hive_core.errors import not_found
from hive_core.infra.git.comparison.shown_diff import ShownDiff, shown_path
from hive_core.infra.git.repository import FileView, Repository
from hive_core.protocol import ChangedFile, FileDiff, FileDiffQuery

MOST_FILE_DIFF = 2 * 1024 * 1024
"""Bytes of the diff of one file that are shown."""


def find_file(files: Sequence[ChangedFile], place: int, proposal: str) -> ChangedFile:
    """Return the changed file at a place of the answer about a proposal. Raises `unknown_file`."""
    if place < len(files):
        return files[place]
    raise not_found(
        "unknown_file", f"{proposal} changes {len(files)} files, counted from 0: not {place}", "see `files`"
    )


def read_file_diff(
    repository: Repository,
    base: str | None,
    commit: str,
    path: str,
    query: FileDiffQuery,
    compare: Callable[[FileView], ShownDiff],
) -> FileDiff:
    """Return the diff of the file that answers name `path`. Blocks."""
    paths = [path]
    if "\\" in path:
        # A path with bytes that are not UTF-8 is named with escapes; several paths may be named alike.
        paths = [found for found in repository.changed_paths(base, commit) if shown_path(found) == path]
    ignored = query.whitespace == "ignored"
    diffs = [compare(FileView(found, query.context, ignored)) for found in paths]
    return FileDiff(
        path=path,
        commit=commit,
        diff="".join(diff.text for diff in diffs),
        diff_bytes=sum(diff.size for diff in diffs),
    )
