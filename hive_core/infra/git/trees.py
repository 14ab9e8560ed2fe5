"""Trees: writing one from files, and listing what one holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.command import running
from hive_core.infra.git.names import check_sha
from hive_core.infra.git.objects import write

_RECORD = re.compile(rb"([0-7]{6}) ([a-z]+) ([0-9a-f]{40}) +([0-9]+|-)\t(.+)", re.DOTALL)
_RECORD_MOST = 8_192
"""Longest record of a listing in bytes: Linux takes paths of 4,096."""

_Nested = dict[bytes, "bytes | _Nested"]


@dataclass(frozen=True)
class Entry:
    """One file of a commit. `mode` is git's (`100644`, `100755`, `120000`, `160000`), `kind` is `blob` or `commit`
    (a submodule), `size` in bytes, 0 for a submodule. Bytes of `path` that are no UTF-8 are surrogates, as in `os`.
    """

    path: str
    mode: str
    kind: str
    sha: str
    size: int


def entries(repository: Path, commit: str, most: int) -> list[Entry]:
    """Every file of a commit, below all of its directories, in git's order.

    Raises HiveError `too_many_files` beyond `most` files, or far more directories than that could need, and `bad_tree`
    for a path that no file can have; git is stopped there, however much would follow.
    """
    found: list[Entry] = []
    directories = 0

    def take(record: bytes) -> None:
        nonlocal directories
        parts = _RECORD.fullmatch(record)
        if parts is None:
            raise _bad_tree("git lists an entry that is not readable")
        mode, kind, sha, size, path = parts.groups()
        if kind == b"tree":
            # Trees of trees without any file can be many more than there are objects.
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

    with running(repository, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", check_sha(commit)) as command:
        rest = b""
        for chunk in command.chunks():
            *records, rest = (rest + chunk).split(b"\0")
            for record in records:
                take(record)
            if len(rest) > _RECORD_MOST:
                raise _bad_tree("a path is longer than 4,096 bytes")
        command.check()
    return found


def check_path(path: str) -> list[bytes]:
    """The parts of a relative path that names a plain file: none is empty, `.`, `..` or `.git`, none has a NUL.

    Raises HiveError `bad_tree`.
    """
    parts = path.encode(errors="surrogateescape").split(b"/")
    for part in parts:
        if not part or part in (b".", b"..") or part.lower() == b".git" or b"\0" in part:
            raise _bad_tree(f"{path[:200]!r} is not a path that a file may have")
    return parts


def write_tree(objects: Path, files: Mapping[str, bytes]) -> str:
    """Store files (path to content) as blobs and trees, durably, and give the top tree's sha. Raises `bad_tree`."""
    top: _Nested = {}
    for path, content in files.items():
        *directories, name = check_path(path)
        level = top
        for directory in directories:
            inner = level.setdefault(directory, {})
            if isinstance(inner, bytes):
                raise _bad_tree(f"{path!r} lies below a file")
            level = inner
        if name in level:
            raise _bad_tree(f"{path!r} is a file and a directory")
        level[name] = content
    return _write_level(top, lambda kind, content: write(objects, kind, content))  # type: ignore[arg-type]


def _write_level(level: _Nested, store: Callable[[str, bytes], str]) -> str:
    lines: list[tuple[bytes, bytes]] = []
    for name, inner in level.items():
        if isinstance(inner, bytes):
            mode, sha, key = b"100644", store("blob", inner), name
        else:
            # git orders a directory as if its name ended in a slash.
            mode, sha, key = b"40000", _write_level(inner, store), name + b"/"
        lines.append((key, mode + b" " + name + b"\0" + bytes.fromhex(sha)))
    return store("tree", b"".join(line for _, line in sorted(lines)))


def _bad_tree(why: str) -> HiveError:
    return HiveError("bad_tree", why, hint="propose plain files with plain names", status=400)
