"""A diff that needs no comparison of lines, for files on which git's own takes too long.

Of each file, the lines between the first and the last difference are shown as removed and added. That takes time in
proportion to the size of the files, and shows as much as git's diff does: in longer form, as equal lines between two
differences are removed and added again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.cat_file import CatFileProcess, read_batch
from hive_core.infra.git.command import EMPTY_TREE, SECONDS, run_in_background
from hive_core.infra.git.comparison.shown_diff import DiffSpace, ShownDiff, change_of_modes, place_in_diff
from hive_core.infra.git.names import check_sha
from hive_core.protocol import FileChange

_RECORD = re.compile(rb":([0-7]{6}) ([0-7]{6}) ([0-9a-f]{40}) ([0-9a-f]{40}) ([A-Z])[0-9]*", re.DOTALL)
_MAX_CHANGES = 100_000
_MAX_PATH_BYTES = 8_192
_MAX_FILE_BYTES = 64 * 1024 * 1024
"""Size of a file up to which its content is read; larger ones are only named."""
_GITLINK = b"160000"
_NO_OBJECT = b"0" * 40
_NO_MODE = b"000000"
_NO_NEWLINE = b"\\ No newline at end of file\n"


@dataclass(frozen=True)
class _Change:
    """One changed file; ids are `_NO_OBJECT` and modes `000000` for a side that does not exist."""

    old_mode: bytes
    new_mode: bytes
    old: bytes
    new: bytes
    path: bytes


def whole_diff(
    repository: Path, old: str | None, new: str, limit: int, seconds: float = SECONDS, path: str | None = None
) -> ShownDiff:
    """Return the diff, cut after `limit` bytes, with all changed files or the one at `path`, as `trees.diff` does.

    Raises HiveError `git_slow` if the files cannot be read within `seconds`.
    """
    changes = _changes(repository, EMPTY_TREE if old is None else check_sha(old), check_sha(new))
    if path is not None:
        wanted = path.encode(errors="surrogateescape")
        changes = [change for change in changes if change.path == wanted]
    changes.sort(key=lambda change: place_in_diff(change.path))
    space = DiffSpace(limit)
    names = [name.decode() for change in changes for name in _contents(change)]
    with read_batch(repository, names, seconds) as process:
        for change in changes:
            sides = {name: _read(process) for name in _contents(change)}
            is_text = all(_is_text(content) for content in sides.values() if content is not None)
            space.begin(change.path.decode(errors="surrogateescape"), _kind(change), is_text=is_text)
            for piece, size in _file_diff(change, sides.get(change.old, b""), sides.get(change.new, b""), limit):
                space.add(piece, size)
    return space.result()


def _kind(change: _Change) -> FileChange:
    if change.old_mode == _NO_MODE:
        return "added"
    if change.new_mode == _NO_MODE:
        return "removed"
    return change_of_modes(change.old_mode, change.new_mode)


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _changes(repository: Path, old: str, new: str) -> list[_Change]:
    found: list[_Change] = []
    header = None
    arguments = ("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--ignore-submodules=none", old, new)
    with run_in_background(repository, *arguments) as command:
        rest = b""
        for chunk in command.chunks():
            *fields, rest = (rest + chunk).split(b"\0")
            for field in fields:
                if header is None:
                    header = _RECORD.fullmatch(field)
                    if header is None:
                        raise HiveError("git_failed", "git lists a change that is not readable", status=500)
                else:
                    old_mode, new_mode, old_id, new_id, _ = header.groups()
                    found.append(_Change(old_mode, new_mode, old_id, new_id, field))
                    header = None
            if len(found) > _MAX_CHANGES or len(rest) > _MAX_PATH_BYTES:
                raise HiveError("too_many_files", "too many paths differ", hint="propose fewer files", status=400)
        command.check()
    return found


def _contents(change: _Change) -> list[bytes]:
    """Return the ids of the blobs to read. A change of the mode only needs none."""
    if change.old == change.new:
        return []
    sides = ((change.old_mode, change.old), (change.new_mode, change.new))
    return [sha for mode, sha in sides if sha != _NO_OBJECT and mode != _GITLINK]


def _read(process: CatFileProcess) -> bytes | None:
    """Return the content of the next object; None if it is missing or too large."""
    header = process.header()
    if header is None:
        return None
    if header.size <= _MAX_FILE_BYTES:
        return process.read(header, _MAX_FILE_BYTES)
    for _ in process.content(header):
        pass
    return None


def _file_diff(change: _Change, old: bytes | None, new: bytes | None, limit: int) -> Iterator[tuple[bytes, int]]:
    """Yield pieces of the diff with their sizes; a piece may be shorter than its size, but not than `limit`."""
    path = _quoted(change.path)
    for line in _head(change, path):
        yield line, len(line)
    if change.old == change.new or _GITLINK in (change.old_mode, change.new_mode):
        return
    if old is None or new is None:
        # Of a size that no limit of a text has, so that the file counts as not shown.
        yield b"", _MAX_FILE_BYTES
        return
    if old == new:  # One side is an empty file, the other does not exist.
        return
    start, old_end, new_end = _differing(old, new)
    first = old.count(b"\n", 0, start) + 1
    removed, added = old[start:old_end], new[start:new_end]
    ranges = b"-%s +%s" % (_range(first, removed), _range(first, added))
    names = [b"a/" + path if change.old != _NO_OBJECT else b"/dev/null"]
    names += [b"b/" + path if change.new != _NO_OBJECT else b"/dev/null"]
    line = b"--- %s\n+++ %s\n@@ %s @@\n" % (*names, ranges)
    yield line, len(line)
    yield _lines(b"-", removed, limit)
    yield _lines(b"+", added, limit)


def _head(change: _Change, path: bytes) -> Iterator[bytes]:
    yield b"diff --git a/%s b/%s\n" % (path, path)
    if change.old == _NO_OBJECT:
        yield b"new file mode %s\n" % change.new_mode
    elif change.new == _NO_OBJECT:
        yield b"deleted file mode %s\n" % change.old_mode
    elif change.old_mode != change.new_mode:
        yield b"old mode %s\nnew mode %s\n" % (change.old_mode, change.new_mode)
    if change.old != change.new:
        yield b"index %s..%s\n" % (change.old, change.new)


def _differing(old: bytes, new: bytes) -> tuple[int, int, int]:
    """Return where the differing lines start, and where they end in `old` and in `new`."""
    # By bytes and not by lines: a list of millions of lines would stop all other threads while it is made.
    shorter = min(len(old), len(new))
    same = _count_same(shorter, lambda count: old.startswith(new[:count]))
    start = old.rfind(b"\n", 0, same) + 1
    left = shorter - start
    same = _count_same(left, lambda count: old.endswith(new[len(new) - count :]))
    old_end, new_end = len(old) - same, len(new) - same
    if not _begins_line(old, old_end) or not _begins_line(new, new_end):
        # The rest of the last differing line is the same, and belongs to it.
        newline = old.find(b"\n", old_end)
        rest = same if newline < 0 else newline + 1 - old_end
        old_end, new_end = old_end + rest, new_end + rest
    return start, old_end, new_end


def _begins_line(text: bytes, position: int) -> bool:
    return position == 0 or text[position - 1 : position] == b"\n"


def _count_same(most: int, are_same: Callable[[int], bool]) -> int:
    """Return the largest count up to `most` for which `are_same` holds, by halving."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if are_same(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _range(first: int, text: bytes) -> bytes:
    count = text.count(b"\n") + (not text.endswith(b"\n") if text else 0)
    return b"%d,%d" % (first if count else first - 1, count)


def _lines(sign: bytes, text: bytes, limit: int) -> tuple[bytes, int]:
    """Return the lines of a text with `sign` before each, cut after about `limit` bytes, and their full size."""
    if not text:
        return b"", 0
    ends = text.endswith(b"\n")
    size = len(text) + text.count(b"\n") + (0 if ends else 1 + 1 + len(_NO_NEWLINE))
    body = text[:-1] if ends else text
    shown = sign + body[:limit].replace(b"\n", b"\n" + sign)
    if len(body) <= limit:
        shown += b"\n" if ends else b"\n" + _NO_NEWLINE
    return shown, size


def _quoted(path: bytes) -> bytes:
    """Return a path as git shows it: bytes that are not printable ASCII as octal escapes, in quotation marks."""
    if all(32 <= byte < 127 and byte not in b'"\\' for byte in path):
        return path
    return b"".join(bytes([byte]) if 32 <= byte < 127 and byte not in b'"\\' else b"\\%03o" % byte for byte in path)
