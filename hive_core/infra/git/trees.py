"""Trees: listing, writing, comparing and extracting."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.cat_file import read_batch
from hive_core.infra.git.command import EMPTY_TREE, run_in_background
from hive_core.infra.git.comparison.shown_diff import FIRST, DiffSpace, ShownDiff, change_of_modes, split_files
from hive_core.infra.git.names import check_sha
from hive_core.infra.git.objects import write_object
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import open_directory, sync_all
from hive_core.protocol import FileChange

_RECORD = re.compile(rb"([0-7]{6}) ([a-z]+) ([0-9a-f]{40}) +([0-9]+|-)\t(.+)", re.DOTALL)
_MAX_RECORD_BYTES = 8_192
"""Longest record of a listing: Linux allows paths of 4,096 bytes."""


@dataclass(frozen=True)
class _File:
    content: bytes
    executable: bool


_Nested = dict[bytes, "_File | _Nested"]


@dataclass(frozen=True)
class Entry:
    """One file of a commit.

    `mode` is git's (`100644`, `100755`, `120000`, `160000`), `kind` is `blob` or, for a submodule, `commit`, `size` is
    in bytes, 0 for a submodule. Bytes of `path` that are not UTF-8 are surrogates, as in `os`.
    """

    path: str
    mode: str
    kind: str
    sha: str
    size: int


def entries(repository: Path, commit: str, most: int) -> list[Entry]:
    """List the files of a commit in all of its directories, in git's order.

    Raises HiveError `too_many_files` beyond `most` files, or far more directories than these could need, and `bad_tree`
    for a path that is too long. git is stopped then.
    """
    found: list[Entry] = []
    directories = 0

    def add_record(record: bytes) -> None:
        nonlocal directories
        parts = _RECORD.fullmatch(record)
        if parts is None:
            raise _bad_tree("git lists an entry that is not readable")
        mode, kind, sha, size, path = parts.groups()
        if kind == b"tree":
            # Nested trees without files can make many more directories than there are objects.
            directories += 1
        else:
            found.append(
                Entry(
                    path.decode(errors="surrogateescape"),
                    mode.decode(),
                    kind.decode(),
                    sha.decode(),
                    int(size) if size != b"-" else 0,
                )
            )
        if len(found) > most or directories > 8 * most + 64:
            why = f"there are more than {most} files" if len(found) > most else "there are too many directories"
            raise HiveError("too_many_files", why, hint="propose fewer files", status=400)

    with run_in_background(repository, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", check_sha(commit)) as command:
        rest = b""
        for chunk in command.chunks():
            *records, rest = (rest + chunk).split(b"\0")
            for record in records:
                add_record(record)
            if len(rest) > _MAX_RECORD_BYTES:
                raise _bad_tree("a path is longer than 4,096 bytes")
        command.check()
    return found


def check_path(path: str) -> list[bytes]:
    """Split the relative path of a plain file.

    Raises HiveError `bad_tree` if a part is empty, `.`, `..` or `.git`, or has a NUL.
    """
    parts = path.encode(errors="surrogateescape").split(b"/")
    for part in parts:
        if not part or part in (b".", b"..") or part.lower() == b".git" or b"\0" in part:
            raise _bad_tree(f"{path[:200]!r} is not a path that a file may have")
    return parts


def write_tree(objects: Path, files: Mapping[str, bytes], executables: Collection[str] = ()) -> str:
    """Store files (path to content) durably as blobs and trees, and return the top tree's id. Raises `bad_tree`.

    The paths of `executables` get the mode 100755, the others 100644.
    """
    top: _Nested = {}
    for path, content in files.items():
        *directories, name = check_path(path)
        level = top
        for directory in directories:
            inner = level.setdefault(directory, {})
            if isinstance(inner, _File):
                raise _bad_tree(f"{path!r} lies below a file")
            level = inner
        if name in level:
            raise _bad_tree(f"{path!r} is a file and a directory")
        level[name] = _File(content, path in executables)
    return _write_level(top, lambda kind, content: write_object(objects, kind, content))  # type: ignore[arg-type]


def _write_level(level: _Nested, store: Callable[[str, bytes], str]) -> str:
    lines: list[tuple[bytes, bytes]] = []
    for name, inner in level.items():
        if isinstance(inner, _File):
            mode, sha, key = b"100755" if inner.executable else b"100644", store("blob", inner.content), name
        else:
            # git sorts a directory as if its name ended in a slash.
            mode, sha, key = b"40000", _write_level(inner, store), name + b"/"
        lines.append((key, mode + b" " + name + b"\0" + bytes.fromhex(sha)))
    return store("tree", b"".join(line for _, line in sorted(lines)))


def _bad_tree(why: str) -> HiveError:
    return HiveError("bad_tree", why, hint="propose plain files with plain names", status=400)


_MAX_FILES = 100_000
_MODES = {"100644": 0o644, "100755": 0o755}


def extract(repository: Path, commit: str, into: Path) -> None:
    """Write the files of a commit durably below the new directory `into`, which must not exist.

    Attributes, filters and line endings are not applied: a file has the content of its blob. Modes are 0644 and 0755,
    less the umask. Raises HiveError `bad_tree`, before anything is written, unless all are plain files with plain
    names, `too_many_files`, `disk_full`. After a failure the caller must remove `into`.
    """
    files = entries(repository, commit, _MAX_FILES)
    plans: list[tuple[list[bytes], int]] = []
    for entry in files:
        if entry.mode not in _MODES:
            why = f"{entry.path[:200]!r} is not a plain file"
            raise HiveError("bad_tree", why, hint="propose plain files only", status=400)
        plans.append((check_path(entry.path), _MODES[entry.mode]))
    with disk_full_as_error("write the files of a commit"):
        into.mkdir()
        with open_directory(into) as top, read_batch(repository, [entry.sha for entry in files]) as process:
            for (parts, mode), entry in zip(plans, files, strict=True):
                header = process.header()
                if header is None:
                    raise HiveError("repository_damaged", f"the object {entry.sha} is missing", status=500)
                _write(top, parts, mode, process.content(header))
        sync_all(into)


def _write(top: int, parts: Sequence[bytes], mode: int, content: Iterable[bytes]) -> None:
    """Create one file and its directories. No part of the path may be a link, and the file must not exist."""
    *directories, name = parts
    parent = os.dup(top)
    try:
        for directory in directories:
            with suppress(FileExistsError):
                os.mkdir(directory, dir_fd=parent)
            # Only one directory of the path is open at a time, however deep it is.
            below = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            os.close(parent)
            parent = below
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, mode, dir_fd=parent)
    finally:
        os.close(parent)
    with os.fdopen(file, "wb") as stream:
        for piece in content:
            stream.write(piece)


_MAX_PATHS = 200_000
_MAX_PATH_BYTES = 8_192
COUNTED = 64 * 1024 * 1024
"""Number of bytes beyond the limit up to which a diff is counted."""

DIFF_SECONDS = 5.0
"""Time limit of the line-by-line comparison: some files take git minutes, and a reader waits."""
DIFF_MEMORY = 768 * 1024 * 1024
_SMALL_WINDOWS = ("-c", "core.packedGitWindowSize=1m", "-c", "core.packedGitLimit=64m")
"""Lets git map little of its packs at a time, so that their sizes do not count against the limit of memory."""
_RAW = re.compile(rb":([0-7]{6}) ([0-7]{6}) [0-9a-f]+ [0-9a-f]+ ([A-Z])[0-9]*")
_FOR_READERS = ("-O/dev/stdin", "--diff-algorithm=myers", "--unified=3", "--inter-hunk-context=0")
"""Options of the diff that people read. The order of its files comes on the standard input."""
_ORDER = "".join(f"{name}\n" for name in FIRST).encode()
_PLAIN = ("--no-ext-diff", "--no-textconv", "--no-renames", "--no-color", "--ignore-submodules=none")


@dataclass(frozen=True)
class FileView:
    """A choice of one file of a diff, and of how it is compared: `context` unchanged lines around each change."""

    path: str
    context: int = 3
    ignore_whitespace: bool = False


def changed_paths(repository: Path, old: str | None, new: str) -> list[str]:
    """Return the paths of added, removed and changed files; with `old` None, of all files of `new`.

    Bytes that are not UTF-8 are surrogates, as in `os`. A rename is a removal and an addition. Raises HiveError
    `too_many_files` beyond 200,000 paths, which no commit that passed intake can have.
    """
    found: list[str] = []
    with run_in_background(
        repository, "diff-tree", "-r", "-z", "--name-only", *_PLAIN, _base(old), check_sha(new)
    ) as command:
        rest = b""
        for chunk in command.chunks():
            *paths, rest = (rest + chunk).split(b"\0")
            found += [path.decode(errors="surrogateescape") for path in paths]
            if len(found) > _MAX_PATHS or len(rest) > _MAX_PATH_BYTES:
                raise HiveError("too_many_files", "too many paths differ", hint="propose fewer files", status=400)
        command.check()
    return found


def diff(
    repository: Path, old: str | None, new: str, limit: int, *, binary: bool = False, view: FileView | None = None
) -> ShownDiff:
    """Return the diff, cut after `limit` bytes, with all changed files; with `old` None, from nothing.

    With `view` it is that of one file. If only white space differs, which the view may leave out, it is empty.

    The files that every configuration has come first. The size is counted up to 64 MiB beyond the limit: a larger
    number means "at least". Every file is shown as text, whatever is in it; with `binary`, one that is no text is only
    named. Bytes that are not UTF-8 are replaced, and a file with such bytes or a NUL is marked. Attributes and settings
    of the repository have no effect. Raises HiveError `git_slow` after 5 s, and `git_failed` if it needs more than
    768 MiB of memory.
    """
    options = ("-r", "-z", "--raw", "-p", "--full-index", *_PLAIN, *_FOR_READERS, *(() if binary else ("--text",)))
    chosen: list[str] = []
    if view is not None:
        options += (f"--unified={view.context}", *(("--ignore-all-space",) if view.ignore_whitespace else ()))
        chosen = ["--", view.path]
    arguments = ("--literal-pathspecs", *_SMALL_WINDOWS, "diff-tree", *options, _base(old), check_sha(new), *chosen)
    space = DiffSpace(limit)
    full = 0
    with run_in_background(repository, *arguments, feed=_ORDER, seconds=DIFF_SECONDS, memory=DIFF_MEMORY) as command:
        chunks = command.chunks()
        names, rest = _read_names(chunks)
        upcoming = iter(names)
        for begins, piece in split_files(chain([rest], chunks)):
            if begins:
                name = next(upcoming, None)
                if name is None:
                    raise HiveError("git_failed", "git shows more changes than it lists", status=500)
                space.begin(*name)
            space.add(piece)
            full += len(piece)
            if full > limit + COUNTED:
                break
        else:
            command.check()
    if view is not None and view.ignore_whitespace and next(upcoming, None) is not None:
        return space.result()
    return space.result(names)


def _read_names(chunks: Iterator[bytes]) -> tuple[list[tuple[str, FileChange]], bytes]:
    """Read the raw records that precede a diff. Returns the changed files, and what was read of the diff."""
    names: list[tuple[str, FileChange]] = []
    header: re.Match[bytes] | None = None
    buffer = b""
    for chunk in chunks:
        *parts, buffer = (buffer + chunk).split(b"\0")
        for number, part in enumerate(parts):
            if header is not None:
                names += [(part.decode(errors="surrogateescape"), change) for change in _changes_of(header)]
                header = None
            elif not part:
                # An empty record ends them. A NUL after it belongs to the diff.
                return names, b"\0".join([*parts[number + 1 :], buffer])
            elif (header := _RAW.fullmatch(part)) is None:
                raise HiveError("git_failed", "git lists a change that is not readable", status=500)
        if len(names) > _MAX_PATHS or len(buffer) > _MAX_PATH_BYTES:
            raise HiveError("too_many_files", "too many paths differ", hint="propose fewer files", status=400)
    return names, b""


def _changes_of(record: re.Match[bytes]) -> list[FileChange]:
    old, new, status = record.groups()
    if status == b"T":
        return ["removed", "added"]  # git shows another type of file, such as a link, as two differences.
    if status in (b"A", b"D"):
        return ["added" if status == b"A" else "removed"]
    return [change_of_modes(old, new)]


def _base(old: str | None) -> str:
    return EMPTY_TREE if old is None else check_sha(old)
