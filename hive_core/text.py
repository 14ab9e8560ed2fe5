"""Text of others made safe to show: escaped, quoted, cut.

Every line of a quotation begins with `> `, and what is put into a line of the hive's own has one line. Characters that
a terminal would act on instead of showing are written as Python escapes (`\\x1b`, `\\u202e`). The escape of a backslash
is not doubled: the result is for reading, not for turning back.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_QUOTE = "> "
_JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiners: emoji and several scripts are written with them, and they only join."""
_ACTED_ON = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, formatting (bidi overrides, invisible tags), lone surrogates, line and paragraph separators."""
_CUT = " [...]"


def visible(text: str) -> str:
    """`text` with everything escaped that a terminal acts on; newlines and tabs are kept."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(character if _harmless(character) else _escaped(character) for character in text)


def one_line(text: str, most: int) -> str:
    """As `visible`, in one line of at most `most` characters."""
    # Every character becomes one or more, so what is cut here would be cut below.
    line = visible(" ".join(text[: most + 1].replace("\t", " ").split("\n")).strip(" "))
    return line if len(line) <= most and len(text) <= most else line[: most - len(_CUT)] + _CUT


def first_line(text: str, most: int) -> str:
    """The first line of `text` that says something, as `one_line`."""
    return one_line(text.strip().partition("\n")[0], most)


def quote(text: str, most: int) -> str:
    """As `visible`, each line behind a mark; cut after `most` characters, with a last line that says so."""
    shown = visible(text[:most]).strip("\n")
    lines = [_QUOTE + line for line in shown[:most].split("\n")]
    # Nobody may hide the rest of a text behind characters that grow when they are escaped.
    if len(text) > most or len(shown) > most:
        lines.append(f"[cut: the whole has {len(text)} characters]")
    return "\n".join(lines)


def join_list(lines: Sequence[str], most: int, width: int) -> str:
    """A list, each of `lines` on a line of its own of at most `width` characters; of more than `most` how many."""
    items = [f"- {one_line(line, width)}" for line in lines[:most]]
    if len(lines) > most:
        items.append(f"- and {len(lines) - most} more")
    return "\n".join(items)


def last_lines(text: str, most: int) -> str:
    """The end of `text`, at most `most` characters of it, beginning with a whole line if it has several."""
    if len(text) <= most:
        return text
    end = text[-most:]
    return end.partition("\n")[2] or end


def _harmless(character: str) -> bool:
    return character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _ACTED_ON


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escaped_line(text: str) -> str:
    """As `visible`, with newlines and tabs escaped as well: for places where one line is one thing."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def escaped_first_line(text: str) -> str:
    """The first line of `text`, as `one_line`, with a mark if there are more."""
    first, _, rest = text.strip().partition("\n")
    return escaped_line(first.rstrip()) + (" …" if rest.strip() else "")


LOG_LINES = 10
"""How many lines of a log are of use to who hears of a crash."""
_LOG_LINE_WIDTH = 200


def quote_log_lines(lines: Sequence[str]) -> list[str]:
    """The last of `lines`, each behind a mark, cut, and with everything escaped that a terminal would act on."""
    return [f"> {_cut_log_line(line)}" for line in lines[-LOG_LINES:]]


def _cut_log_line(line: str) -> str:
    cut = line[:_LOG_LINE_WIDTH]
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in cut
    )
    return f"{shown[:_LOG_LINE_WIDTH]} [...]" if len(line) > _LOG_LINE_WIDTH or len(shown) > _LOG_LINE_WIDTH else shown


def shown(text: str) -> str:
    """`text` quoted, cut and in pure ASCII, so that a look-alike or escape sequence is seen for what it is."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
