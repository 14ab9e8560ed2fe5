"""The contents of work: the files that it changes, its diff, and its commits.

Attributes of the repository have no effect (`hive_core.infra.git.command.FLAGS`), so none hides a change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.command import checked, run_in_background
from hive_core.infra.git.comparison.shown_diff import DiffSpace, ShownDiff
from hive_core.infra.git.names import check_sha
from hive_core.infra.git.repository import FileView, Repository
from hive_core.infra.git.trees import DIFF_MEMORY, DIFF_SECONDS
from hive_core.protocol import FileChange, WorkCommit, WorkFile
from hive_core.protocol.work.proposals import FileKind

_WHOLE = "(git needs too long to compare these files line by line: each change is shown as one block)\n"
"""The line before a diff of whole blocks."""
_NAMES = "(git needs too long to read these files: none of them is shown)\n"
"""The line in place of a diff of more contents than can be read."""
_WHOLE_SECONDS = 10.0
_CHANGES: dict[bytes, FileChange] = {b"A": "added", b"D": "removed"}
_RAW = re.compile(rb":([0-7]{6}) ([0-7]{6}) [0-9a-f]+ [0-9a-f]+ ([A-Z])[0-9]*")
_KINDS: dict[bytes, FileKind] = {b"100755": "executable", b"120000": "symlink", b"160000": "submodule"}
_NO_MODE = b"000000"
_MAX_RECORD = 16_384
_LISTED_COMMITS = 50
_COMMIT_BYTES = 256 * 1024
_SHOWN_NAME = 200


@dataclass(frozen=True)
class Contents:
    """The changed files, the shown part of their diff, and the newest commits."""

    diff: ShownDiff
    files: list[WorkFile]
    commits: list[WorkCommit]
    commit_count: int


def read_diff(repository: Repository, base: str, commit: str, limit: int, view: FileView | None = None) -> ShownDiff:
    """Return the diff, cut after `limit` bytes, with all changed files or the one of `view`.

    Files that are no text are only named.

    If git needs too long or too much memory to compare the lines, the differing part of each file is shown as removed
    and added, and the first line says so. If git needs too long even to read them, files are only named.
    """
    try:
        return repository.diff(base, commit, limit, binary=True, view=view)
    except HiveError as error:
        if error.code not in ("git_slow", "git_failed"):
            raise
    try:
        path = None if view is None else view.path
        diff = repository.whole_diff(base, commit, max(limit - len(_WHOLE), 0), _WHOLE_SECONDS, path)
    except HiveError as error:
        if error.code not in ("git_slow", "git_failed"):
            raise
        # Otherwise nobody could be asked to decide, and the work would stay as it is for good.
        names = DiffSpace(0).result(_read_names(repository.path, base, commit))
        return ShownDiff(_NAMES, len(_NAMES) + names.size, names.files)
    return ShownDiff(_WHOLE + diff.text, len(_WHOLE) + diff.size, diff.files)


def _read_names(repository: Path, base: str, commit: str) -> Iterator[tuple[str, FileChange]]:
    """Return the changed files, without comparing any."""
    arguments = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none")
    records = checked(repository, *arguments, check_sha(base), check_sha(commit)).split(b"\0")
    for header, path in zip(records[0::2], records[1::2], strict=False):
        change = _CHANGES.get(header[-1:], "changed")
        yield path.decode(errors="surrogateescape"), change


def read_contents(repository: Repository, base: str, commit: str, limit: int) -> Contents:
    """Return the contents of work on top of `base`, with at most `limit` bytes of its diff."""
    diff = read_diff(repository, base, commit, limit)
    kinds = _read_kinds(repository.path, base, commit)
    files = []
    for file in diff.files:
        kind, binary = kinds.get((file.path, file.change == "removed"), ("file", not file.is_text))
        files.append(WorkFile(**file.model_dump(), kind=kind, binary=binary))
    count = int(checked(repository.path, "rev-list", "--count", f"{check_sha(base)}..{check_sha(commit)}"))
    return Contents(diff, files, list(_read_commits(repository.path, base, commit)), count)


def _read_kinds(repository: Path, base: str, commit: str) -> dict[tuple[str, bool], tuple[FileKind, bool]]:
    """Return the kind of each changed file, and True with it if git does not compare its lines.

    The key is the path as in a diff, and True if the file is removed. Where git needs too long, nothing is said.
    """
    arguments = ("diff-tree", "-r", "-z", "--raw", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
    found: dict[tuple[str, bool], tuple[FileKind, bool]] = {}
    header: re.Match[bytes] | None = None
    command_line = (*arguments, "--ignore-submodules=none", check_sha(base), check_sha(commit))
    try:
        with run_in_background(repository, *command_line, seconds=DIFF_SECONDS, memory=DIFF_MEMORY) as command:
            rest = b""
            for chunk in command.chunks():
                *records, rest = (rest + chunk).split(b"\0")
                for record in records:
                    if header is not None:
                        _add_kinds(found, _path(record), header)
                        header = None
                    elif record.startswith(b":"):
                        header = _RAW.fullmatch(record)
                    elif record.startswith(b"-\t-\t"):
                        path = _path(record[4:])
                        for removed in (False, True):
                            if (path, removed) in found:
                                found[path, removed] = (found[path, removed][0], True)
                if len(rest) > _MAX_RECORD:
                    break
    except HiveError as error:
        if error.code not in ("git_slow", "git_failed"):
            raise
    return found


def _add_kinds(found: dict[tuple[str, bool], tuple[FileKind, bool]], path: str, header: re.Match[bytes]) -> None:
    old, new, status = header.groups()
    if status == b"T":
        found[path, True] = (_KINDS.get(old, "file"), False)
    if new == _NO_MODE:
        found[path, True] = (_KINDS.get(old, "file"), False)
    else:
        found[path, False] = (_KINDS.get(new, "file"), False)


def _path(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


def _read_commits(repository: Path, base: str, commit: str) -> Iterator[WorkCommit]:
    form = "--format=%H%n%an <%ae>%n%cn <%ce>%n%s"
    arguments = ("log", "-z", f"-{_LISTED_COMMITS}", form, "--no-show-signature", "--no-decorate", "--no-color")
    found = b""
    with run_in_background(repository, *arguments, f"{check_sha(base)}..{check_sha(commit)}") as command:
        for chunk in command.chunks():
            found += chunk
            if len(found) > _COMMIT_BYTES:
                break
    for record in found.split(b"\0")[:_LISTED_COMMITS]:
        lines = [line[:_SHOWN_NAME] for line in record.decode(errors="replace").split("\n")]
        if len(lines) >= 4:
            yield WorkCommit(commit=lines[0], author=lines[1], committer=lines[2], subject=lines[3])
