"""Text for people and models: untrusted text escaped, quoted and cut, and sizes.

`INVISIBLE` is the one table of characters that are not seen. Each reader has a function:

- A terminal, and quotations that people and models read: `visible`. It escapes the table, and keeps joiners and
  variation selectors where they have an effect that is seen. Rare spaces and private characters stay.
- A model, in the result of a tool: `escape_unprintable`. It escapes the whole table, and all characters that are not
  printable, such as rare spaces, private and unassigned characters.
- A log, an error, or any other single line: `printable_line` for models, `escaped_line` for terminals. They also escape
  newlines and tabs.
- A page: the templates of `hive_agent.web` escape HTML, and its scripts only set text.
- The checks of a proposal (`hive_core.gate.intake.text_check`): `find_escaped` finds what `visible` would escape.

Texts of agents are `Quoted`. The hive's own sentences hold them only as marked lines.

Characters are written as Python escapes (`\\x1b`, `\\u202e`). Backslashes are not doubled, because the result is only
read and never converted back. Every line of a quotation begins with `> `.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUOTE = "> "
_CUT = " [...]"

INVISIBLE = (
    # Controls other than tab and newline, which some readers take for the end of a line or for a command.
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029"
    # Lone surrogates, which no encoding has.
    r"\ud800-\udfff"
    # Formatting: joiners, marks and overrides of the direction, byte order marks, tags.
    r"\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    r"\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
    # Letters, marks and symbols that are blank: fillers, variation selectors, the empty Braille pattern.
    r"\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U00013441\U00013442"
    r"\U00016fe4\U0001d159"
)
"""Characters that are not seen, as ranges of a regular expression."""
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_JOINERS = frozenset("\u200c\u200d")
"""Zero-width (non-)joiners: emoji and several scripts are written with them."""
_SELECTORS = frozenset("\ufe0e\ufe0f")
"""Variation selectors that choose between the text and the emoji form of a symbol."""
_EMOJI = re.compile(
    "[\xa9\xae\u203c\u2049\u2122-\u21aa\u231a-\u27bf\u2934-\u2b55\u3030\u303d\u3297\u3299\U0001f004-\U0001faff]"
)
"""The ranges of symbols that have both forms."""
_KEYCAP, _KEYS = "\u20e3", frozenset("#*0123456789")


def visible(text: str) -> str:
    """Escape all characters that a person does not see or that a terminal interprets, other than newlines and tabs."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return _INVISIBLE.sub(lambda found: found[0] if _has_effect(text, found.start()) else _escape(found[0]), text)


def find_escaped(text: str, start: int, end: int) -> int | None:
    """Return the index of the first character between `start` and `end` that `visible` escapes, None if there is none.

    At most two characters before it and one after it decide.
    """
    found = _INVISIBLE.finditer(text, start, end)
    return next((each.start() for each in found if not _has_effect(text, each.start())), None)


def has_invisible(text: str) -> bool:
    """Return True if `text` has a character that is not seen."""
    return _INVISIBLE.search(text) is not None


def escape_unprintable(text: str) -> str:
    """Escape all characters that are invisible or not printable, other than newlines and tabs."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    shown = _INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], text)
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1] for character in shown
    )


def one_line(text: str, most: int) -> str:
    """Escape as `visible` does, in one line of at most `most` characters."""
    # Each character becomes at least one, so that what is cut here would also be cut below.
    line = visible(" ".join(text[: most + 1].replace("\t", " ").split("\n")).strip(" "))
    return line if len(line) <= most and len(text) <= most else line[: most - len(_CUT)] + _CUT


def first_line(text: str, most: int) -> str:
    """Return the first line of `text` that is not empty, as `one_line` does."""
    return one_line(text.strip().partition("\n")[0], most)


def quote(text: str, most: int) -> str:
    """Escape as `visible` does and mark each line; cut after `most` characters, with a last line that says so."""
    shown = visible(text[:most]).strip("\n")
    lines = [_QUOTE + line for line in shown[:most].split("\n")]
    # Escaped characters are longer, so a text could otherwise hide its rest behind them.
    if len(text) > most or len(shown) > most:
        lines.append(f"[cut: the whole has {len(text)} characters]")
    return "\n".join(lines)


class Quoted:
    """A text of an agent: a note, a reason, the detail of a state, lines of a log, a name of a file.

    It is no str, and f-strings, `str()` and `format()` raise TypeError, so that it cannot become a part of a sentence
    of the hive's. Only its methods give the text, marked. No message of the hive's has one of them in its first line.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __bool__(self) -> bool:
        """Return True if the text says anything."""
        return bool(self._text.strip())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quoted) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __len__(self) -> int:
        return len(self._text)

    def __str__(self) -> str:
        raise TypeError("a text of an agent has to be quoted: use block(), item() or line()")

    def __format__(self, _spec: str) -> str:
        raise TypeError("a text of an agent has to be quoted: use block(), item() or line()")

    def __repr__(self) -> str:
        return f"Quoted(<{len(self._text)} characters>)"

    def block(self, most: int, *, otherwise: str = "(nothing)") -> str:
        """Return the text, or `otherwise` if it says nothing, with `> ` before each line; cut as `quote` does.

        The line of the hive's above it says whose words these are.
        """
        return quote(self._text if self else otherwise, most)

    def end(self, most: int) -> Quoted:
        """Return the last `most` characters at most, beginning with a whole line if there are several."""
        return Quoted(last_lines(self._text, most))

    def item(self, most: int) -> str:
        """Return the text in one line of a list, after `- `."""
        return f"- {one_line(self._text, most)}"

    def line(self, most: int) -> str:
        """Return the first line of the text that is not empty, escaped, cut, and in double quotes."""
        shown = first_line(self._text, most).replace('"', "'")
        return f'"{shown}"'


def join_list(lines: Sequence[str] | Sequence[Quoted], most: int, width: int) -> str:
    """Return a list with at most `most` of `lines`, each cut at `width` characters, and the number of the others."""
    items = [line.item(width) if isinstance(line, Quoted) else f"- {one_line(line, width)}" for line in lines[:most]]
    if len(lines) > most:
        items.append(f"- and {len(lines) - most} more")
    return "\n".join(items)


def last_lines(text: str, most: int) -> str:
    """Return the last `most` characters of `text` at most, beginning with a whole line if it has several."""
    if len(text) <= most:
        return text
    end = text[-most:]
    return end.partition("\n")[2] or end


def _has_effect(text: str, at: int) -> bool:
    """Return True for a joiner between characters that it may join, and for a selector behind a symbol."""
    before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    if text[at] in _SELECTORS:
        return _EMOJI.fullmatch(before) is not None or (after == _KEYCAP and before in _KEYS)
    if text[at] not in _JOINERS:
        return False
    if before in _SELECTORS:
        before = text[at - 2 : at - 1] if at > 1 else ""
    return _can_be_joined(before) and _can_be_joined(after)


def _can_be_joined(character: str) -> bool:
    return not character.isascii() and not has_invisible(character)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escaped_line(text: str) -> str:
    """Escape as `visible` does, and newlines and tabs too, so that the result is one line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def escaped_first_line(text: str) -> str:
    """Return the first line of `text`, escaped as `escaped_line` does, with a mark if there are more."""
    first, _, rest = text.strip().partition("\n")
    return escaped_line(first.rstrip()) + (" …" if rest.strip() else "")


LOG_LINES = 10
"""Number of log lines in the report of a crash."""
_LOG_LINE_WIDTH = 200


def quote_log_lines(lines: Sequence[str]) -> list[str]:
    """Return the last of `lines`, each marked, cut, and with all unprintable characters escaped."""
    return [f"> {printable_line(line, _LOG_LINE_WIDTH)}" for line in lines[-LOG_LINES:]]


def printable_line(text: str, most: int) -> str:
    """Escape as `escape_unprintable` does, and newlines and tabs too; cut after `most` characters, with a mark."""
    shown = escape_unprintable(text[:most]).replace("\n", "\\n").replace("\t", "\\t")
    return shown[:most] + _CUT if len(text) > most or len(shown) > most else shown


def format_bytes(count: int) -> str:
    """Return a size in the largest fitting unit, such as "512 bytes" or "1.5 GiB"."""
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


PLAIN_DIFF = "--text --no-ext-diff --no-textconv"
"""Options for people who run `git diff` themselves: no attribute hides a file or has a program called."""


def is_hidden(size: int, shown: int, *, is_text: bool) -> bool:
    """Return True if not all of a change is shown: `shown` bytes of the `size` of its diff are."""
    return not is_text or shown < size


def describe_file(path: str, change: str, size: int, shown: int, *, is_text: bool) -> str:
    """Return a changed file in one line, with the path, which is not escaped, at its end."""
    words = [change, f"{format_bytes(size)} of diff"]
    if not is_text:
        words.append("NOT TEXT")
    if shown < size:
        words.append(f"ONLY {format_bytes(shown)} SHOWN" if shown else "NOT SHOWN")
    return f"{', '.join(words)}: {path}"


def shown(text: str) -> str:
    """Quote and cut `text` in pure ASCII, so that look-alikes and escape sequences can be recognised."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
