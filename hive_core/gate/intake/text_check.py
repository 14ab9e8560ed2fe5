"""Checks of the content of a commit's files: text is text, and shows what a program would read.

Rules:

- Every file is UTF-8 without NUL bytes and without control characters other than tabs and line ends (LF or CR LF),
  unless `binary_files` in agent.toml names its path. What shows a text in another order (overrides of its direction),
  ends a line for some readers only, or carries a hidden copy of ASCII (tags) is refused too.
- `agent.toml` and files of Nix code (`*.nix`) also have no other character that a reviewer would see as an escape only:
  byte order marks, characters of no width, blank letters. In other files the hive shows these as escapes.
- Joiners (U+200C, U+200D) between letters that are not ASCII, which several scripts need, are neither refused nor
  escaped in other files. In code two names or values that differ in a joiner only would look alike.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence

from hive_core.errors import HiveError
from hive_core.gate.auto_approval import path_matches
from hive_core.text import find_escaped, has_invisible, shown

_CODE = re.compile(r".*\.nix|agent\.toml", re.IGNORECASE | re.DOTALL)
_JOINERS = re.compile(r"[\u200c\u200d]")
# CR is taken before LF only. Elsewhere it would end a comment of Nix, but not a line of a diff.
_REFUSED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_NAMES = {"\0": "NUL", "\r": "carriage return without a newline", "\x1b": "escape", "\x0c": "form feed"}
_DATA = "a file that is no text needs its path in binary_files of agent.toml"
_PLAIN = bytes({*range(0x20, 0x7F), *b"\t\n"})
_CONTEXT = 2
"""Characters before one that decide with it (`find_escaped`)."""


def is_binary(path: str, patterns: Sequence[str]) -> bool:
    """Return True if a file may be other than text. Settings, prompt and Nix code may not."""
    if path == "prompt.md" or is_code(path):
        return False
    return any(path_matches(path, pattern) for pattern in patterns)


def is_code(path: str) -> bool:
    """Return True for a file that is Nix code or the settings, in which no character may be hidden."""
    return _CODE.fullmatch(path.rpartition("/")[2]) is not None


def check_text(path: str, data: bytes) -> None:
    """Raise the error of `TextCheck` for a whole file."""
    check = TextCheck(path)
    check.feed(data)
    check.finish()


class TextCheck:
    """Checks a file piece by piece. Raises `bad_agent_toml`, `bad_prompt`, or `bad_text` for any other file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_code = is_code(path)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line = 1
        """The line of the first character that is not checked."""
        self._context = ""
        """Characters that are checked already."""
        self._waiting = ""
        """The last character, which the next one decides on."""

    def feed(self, piece: bytes) -> None:
        """Check the next bytes."""
        if not self._waiting and not self._decoder.getstate()[0] and not piece.translate(None, _PLAIN):
            # Most files have nothing but this, so a large one costs little time.
            self._line += piece.count(b"\n")
            self._context = piece[-_CONTEXT:].decode("ascii") if len(piece) >= _CONTEXT else ""
            return
        try:
            text = self._decoder.decode(piece)
        except UnicodeDecodeError as error:
            raise self._not_utf8(error) from None
        self._check(text, final=False)

    def finish(self) -> None:
        """Check the end of the file."""
        try:
            rest = self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise self._not_utf8(error) from None
        self._check(rest, final=True)

    def _check(self, new: str, *, final: bool) -> None:
        text = (self._context + self._waiting + new).replace("\r\n", "\n")
        start, end = len(self._context), len(text)
        if not final and text and has_invisible(text[-1]):
            end = max(start, end - 1)
        refused = _REFUSED.search(text, start, end)
        faults = [] if refused is None else [refused.start()]
        if self._is_code:
            if (hidden := find_escaped(text, start, end)) is not None:
                faults.append(hidden)
            if (joiner := _JOINERS.search(text, start, end)) is not None:
                faults.append(joiner.start())
        if faults:
            raise self._fault(text, start, min(faults))
        self._line += text.count("\n", start, end)
        self._context, self._waiting = text[max(0, end - _CONTEXT) : end], text[end:]

    def _fault(self, text: str, start: int, at: int) -> HiveError:
        character, line = text[at], self._line + text.count("\n", start, at)
        name = f"U+{ord(character):04X}"
        if described := _NAMES.get(character) or unicodedata.name(character, "").lower():
            name += f" ({described})"
        hint = "remove it, or write it as an escape"
        if character == "\0":
            hint = f"save the file as UTF-8; {_DATA}"
        return self._error(line, f"the character {name}, which a reviewer would not see", hint)

    def _not_utf8(self, error: UnicodeDecodeError) -> HiveError:
        # What stands before is judged first, so that the message does not depend on the pieces.
        self._check(error.object[: error.start].decode(), final=False)
        return self._error(self._line, "not valid UTF-8", f"save the file as UTF-8; {_DATA}")

    def _error(self, line: int, what: str, hint: str) -> HiveError:
        if self._path == "agent.toml":
            return HiveError("bad_agent_toml", f"agent.toml, line {line}: {what}", hint=hint)
        if self._path == "prompt.md":
            return HiveError("bad_prompt", f"prompt.md, line {line}: {what}", hint=hint)
        return HiveError("bad_text", f"{shown(self._path)}, line {line}: {what}", hint=hint)
