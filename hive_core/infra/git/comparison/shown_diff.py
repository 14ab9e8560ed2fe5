"""The part of a diff that readers are shown, with every changed file named.

The space is shared so that no file can push another out: the three files that every configuration has come first and
get at most half of what is left each; the others share the rest evenly, and what they do not need goes back to the
first three. Files that get no room are named all the same.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from hive_core.protocol import ChangedFile, FileChange

FIRST = ("agent.nix", "agent.toml", "prompt.md")
"""The files that come first in every diff, in this order. The others follow in the order of their paths."""
_HEAD = b"diff --git "
_HUNK_HEADER = re.compile(rb"^@@ [^\n]*", re.MULTILINE)
"""May end in the middle of a character, because git cuts the line of context in it after 80 bytes."""
_CUT = "[cut: {shown:,} of {size:,} bytes of this file's diff are shown]\n"
_CUT_ROOM = 90
"""Bytes that are kept free for the line that tells of a cut."""


@dataclass(frozen=True)
class ShownDiff:
    """The shown part of a diff, the size of the whole in bytes, and all changed files in the order of the diff.

    A size is counted up to a limit only; beyond it, it means "at least".
    """

    text: str = ""
    size: int = 0
    files: Sequence[ChangedFile] = ()

    @property
    def cut(self) -> bool:
        """Return True if a part of the diff is not in the text."""
        return any(file.shown < file.size for file in self.files)


@dataclass
class _Section:
    """The diff of one file: its beginning, its size, and whether all of it so far is text."""

    path: str
    change: FileChange
    is_text: bool = True
    is_checked: bool = False
    kept: bytearray = field(default_factory=bytearray)
    size: int = 0
    unchecked: bytearray = field(default_factory=bytearray)

    def add(self, piece: bytes, size: int, most: int) -> None:
        self.kept += piece[: max(most - len(self.kept), 0)]
        self.size += size
        if self.is_text and not self.is_checked:
            whole, newline, rest = piece.rpartition(b"\n")
            if newline:
                self._check(bytes(self.unchecked) + whole)
                self.unchecked.clear()
            self.unchecked += rest

    def end(self) -> None:
        self._check(bytes(self.unchecked))
        self.unchecked.clear()

    def _check(self, lines: bytes) -> None:
        if lines.isascii():
            self.is_text = self.is_text and b"\0" not in lines
            return
        try:
            self.is_text = self.is_text and "\0" not in _HUNK_HEADER.sub(b"", lines).decode()
        except UnicodeDecodeError:
            self.is_text = False


class DiffSpace:
    """Keeps the beginnings of the files' diffs for a text of at most `limit` bytes.

    Call `begin` for each file, those of `FIRST` first, and then `add` with its diff. At most about six times the limit
    is kept in memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sections: list[_Section] = []
        self._kept = 0

    def begin(self, path: str, change: FileChange, *, is_text: bool | None = None) -> None:
        """Begin the next file. Without `is_text` its diff is looked through for what is no text."""
        self._end()
        self._sections.append(_Section(path, change, is_text is not False, is_checked=is_text is not None))

    def add(self, piece: bytes, size: int | None = None) -> None:
        """Add the next piece of the diff of the file that was begun last. `size` is that of the whole piece, of which
        the caller may give the beginning only if that has at least as many bytes as the text may have.
        """
        section = self._sections[-1]
        before = len(section.kept)
        section.add(piece, len(piece) if size is None else size, self._limit)
        self._kept += len(section.kept) - before
        if self._kept > (len(FIRST) + 2) * self._limit:
            self._trim()

    def result(self, names: Iterable[tuple[str, FileChange]] = ()) -> ShownDiff:
        """Return the text and the files. `names` are all changed files, of which some may not have been begun."""
        self._end()
        for path, change in list(names)[len(self._sections) :]:
            self._sections.append(_Section(path, change, size=1))  # At least one byte, of which none is shown.
        texts, files = [], []
        for section, room in zip(self._sections, self._rooms(), strict=True):
            text, shown = _shown(section, room)
            texts.append(text)
            files.append(
                ChangedFile(
                    path=shown_path(section.path),
                    change=section.change,
                    size=section.size,
                    shown=shown,
                    is_text=section.is_text,
                )
            )
        return ShownDiff("".join(texts), sum(section.size for section in self._sections), files)

    def _end(self) -> None:
        if self._sections:
            self._sections[-1].end()

    def _trim(self) -> None:
        """Forget what cannot be shown any more: with more files, the share of each only gets smaller."""
        others = [section for section in self._sections if section.path not in FIRST]
        level = share_evenly([section.size for section in others], self._limit)
        for section in others:
            del section.kept[level:]
        self._kept = sum(len(section.kept) for section in self._sections)

    def _rooms(self) -> list[int]:
        """Return the number of bytes that each file gets."""
        left = self._limit
        rooms = [0] * len(self._sections)
        first = [at for at, section in enumerate(self._sections) if section.path in FIRST]
        for at in first:
            rooms[at] = min(self._sections[at].size, left // 2)
            left -= rooms[at]
        others = [at for at in range(len(rooms)) if at not in first]
        level = share_evenly([self._sections[at].size for at in others], left)
        for at in others:
            rooms[at] = min(self._sections[at].size, level)
            left -= rooms[at]
        for at in first:
            more = min(self._sections[at].size - rooms[at], left)
            rooms[at] += more
            left -= more
        return rooms


def shown_path(path: str) -> str:
    """Return the path of a changed file as answers name it: with escapes in place of bytes that are not UTF-8."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def place_in_diff(path: bytes) -> tuple[int, bytes]:
    """Return the key by which the files of a diff are sorted, as git sorts them with the order of `FIRST`."""
    name = path.decode(errors="surrogateescape")
    return (FIRST.index(name) if name in FIRST else len(FIRST), path)


def change_of_modes(old: bytes, new: bytes) -> FileChange:
    """Return the kind of a change of a file with these modes, which are git's."""
    if old == new:
        return "changed"
    return "made executable" if new == b"100755" else "made not executable"


def share_evenly(sizes: Sequence[int], room: int) -> int:
    """Return the most that each may have so that all fit into `room`, where the small ones need less. Pure."""
    left = room
    for count, size in zip(range(len(sizes), 0, -1), sorted(sizes), strict=True):
        if size * count > left:
            return left // count
        left -= size
    return room


def split_files(chunks: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Yield a diff in pieces, each with True if it begins the diff of the next file.

    Lines of the files' content never begin a file: in a diff a character stands before each of them.
    """
    boundary = b"\n" + _HEAD
    buffer = b"\n"
    inside = False
    for chunk in chunks:
        *ended, rest = (buffer + chunk).split(boundary)
        for piece in ended:
            if inside:
                yield False, piece + b"\n"
            yield True, _HEAD
            inside = True
        # The end may be the beginning of a boundary.
        keep = len(boundary) - 1
        if inside and len(rest) > keep:
            yield False, rest[:-keep]
        buffer = rest[-keep:]
    if inside and buffer:
        yield False, buffer


def _shown(section: _Section, room: int) -> tuple[str, int]:
    """Return the text of a file's diff and the number of its bytes in it; nothing if no line of it has room."""
    if section.size <= room:
        return bytes(section.kept).decode(errors="replace"), section.size
    piece = bytes(section.kept[: max(room - _CUT_ROOM, 0)])
    end = piece.rfind(b"\n") + 1
    if end < len(piece) // 2:
        # A very long line. A character that the end cuts in two is left out instead of replaced.
        end = len(piece)
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(piece[:end])
    if "\n@@ " not in text:
        return "", 0
    newline = "" if text.endswith("\n") else "\n"
    return text + newline + _CUT.format(shown=end, size=section.size), end
