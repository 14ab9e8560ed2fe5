"""Nix syntax errors, found with tree-sitter.

The parser says that something is wrong and then guesses on; what it reports afterwards lies wherever the guess ended.
Where a person would look is where no rule of the language could go on first, and the parser tells that only in its
trace. The trace is slow, so it is asked for only when there is an error, and the text ends for the parser there.

The grammar (tree-sitter-nix 0.1.0) does not know the comma after a function's last argument, `{ a, b, }: ...`, which
Nix takes and its formatter puts. To the parser such a comma is a space, so that every place stays where it is.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Collection
from dataclasses import dataclass

import tree_sitter_nix
from tree_sitter import Language, Node, Parser, Point

_CHUNK = 256
"""Bytes that the parser gets at once while it is traced: few, so that it stops soon after the error."""
_TRACE_SECONDS = 3.0
_SHOWN = 100
"""Longest part of a line that is shown."""
_PLACE = re.compile(r"process .*row:(\d+), col:(\d+)")
_TOKEN = re.compile(r"[\w'.-]{1,40}|\S")


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where: line and column count from 1, the column in characters."""

    line: int
    column: int
    what: str
    text: str

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: {self.what}"
        return f"{place}\n{self.text}" if self.text else place


def problem(source: bytes) -> Problem | None:
    """What keeps `source` from being one Nix expression. Takes long for a hostile text: confine whoever calls it."""
    try:
        source.decode()
    except UnicodeDecodeError as error:
        return _at(source, error.start, "this is not UTF-8 text")
    if source.startswith(codecs.BOM_UTF8):
        return Problem(1, 1, "a byte order mark, which Nix does not take: save the file without it", "")
    root = tree(source)
    if not root.has_error:
        # An empty file is no error to the parser.
        return None if root.child_by_field_name("expression") else _at(source, len(source), _what(source, len(source)))
    row, column = _traced(as_the_grammar_has_it(source)) or _first_error(root)
    start = _offset(source, row, column)
    # The place is the end of the last thing that fitted; what does not fit comes after the space.
    start += len(source[start:]) - len(source[start:].lstrip())
    return _at(source, start, _what(source, start))


def _traced(source: bytes) -> tuple[int, int] | None:
    """Row and column where parsing fails, both counted from 0, the column in bytes; None if that takes too long."""
    now = failed = (0, 0)
    stuck = False
    until = time.monotonic() + _TRACE_SECONDS

    def note(_kind: object, message: str) -> None:
        nonlocal now, failed, stuck
        if stuck:
            return
        if message.startswith("detect_error"):
            # One reading of an ambiguous text has ended here; others may go on.
            failed = max(failed, now)
        elif message.startswith("resume"):
            stuck = True
        elif place := _PLACE.match(message):
            now = int(place[1]), int(place[2])

    def read(offset: int, _place: Point) -> bytes:
        return b"" if stuck or time.monotonic() > until else source[offset : offset + _CHUNK]

    parser = Parser(LANGUAGE)
    parser.logger = note
    parser.parse(read)
    return failed if stuck and time.monotonic() <= until else None


def _first_error(root: Node) -> tuple[int, int]:
    """Where the first thing lies that the parser had to skip or to invent."""
    node = root
    while not (node.is_error or node.is_missing):
        wrong = next((child for child in node.children if child.has_error), None)
        if wrong is None:
            break
        node = wrong
    return node.start_point.row, node.start_point.column


def _offset(source: bytes, row: int, column: int) -> int:
    start = 0
    for _ in range(row):
        start = source.index(b"\n", start) + 1
    return start + column


def _what(source: bytes, start: int) -> str:
    token = _TOKEN.match(source[start : start + 200].decode(errors="ignore"))
    return f"syntax error, unexpected {token[0]!r}" if token else "syntax error, unexpected end of the file"


def _at(source: bytes, start: int, what: str) -> Problem:
    begin = source.rfind(b"\n", 0, start) + 1
    end = source.find(b"\n", start)
    before = source[begin:start].decode(errors="replace")
    after = source[start : end if end >= 0 else len(source)][: 4 * _SHOWN].decode(errors="replace")
    left = _plain(before[-_SHOWN // 2 :])
    shown = (left + _plain(after))[:_SHOWN].rstrip()
    return Problem(
        source.count(b"\n", 0, start) + 1, len(before) + 1, what, f"  {shown}\n  {' ' * len(left)}^" if shown else ""
    )


def _plain(text: str) -> str:
    """Without what would move a terminal's cursor; each character stays one wide."""
    return "".join(character if character.isprintable() else " " for character in text)


LANGUAGE = Language(tree_sitter_nix.language())
_SPACE = rb"(?:\s|#[^\n]*|/\*(?s:.*?)\*/)*+"
_LAST = re.compile(rb",(?=%(space)s\}%(space)s[:@])" % {b"space": _SPACE})
"""A comma behind which a function's arguments end. There may be some in strings and comments, where it does not
matter.
"""


def tree(source: bytes) -> Node:
    """The root of the tree; it has errors where `source` is not Nix. Takes long for a hostile text."""
    return _parse(as_the_grammar_has_it(source))


def as_the_grammar_has_it(source: bytes) -> bytes:
    """`source` without the commas that Nix takes and the grammar does not; what is wrong in it stays so."""
    if not _parse(source).has_error:
        return source
    commas = [found.start() for found in _LAST.finditer(source)]
    text = _blanked(source, commas)
    root = _parse(text)
    if root.has_error:
        return text  # Something else is wrong, and is to be found.
    return _blanked(source, [place for place in commas if not _is_wrong(root, place)])


def _is_wrong(root: Node, place: int) -> bool:
    """Whether what was a comma at `place` stood behind no argument, as in `{ , }:` and `{ ..., }:`."""
    node = root.descendant_for_byte_range(place, place + 1)
    if node is None or node.type != "formals":
        return False
    before = [child.type for child in node.children if child.end_byte <= place and child.type != "comment"]
    return before[-1] != "formal"


def _parse(text: bytes) -> Node:
    return Parser(LANGUAGE).parse(text).root_node


def _blanked(source: bytes, places: Collection[int]) -> bytes:
    text = bytearray(source)
    for place in places:
        text[place] = ord(" ")
    return bytes(text)
