"""Text for people and models: untrusted text escaped, quoted and cut, and sizes.

Each reader needs other characters escaped:

- `visible` is for terminals and quotations: it keeps characters that a terminal only displays, such as joiners and rare
  spaces.
- `escape_unprintable` is for models, which must not read text that a person cannot see: it escapes all characters that
  are not printable, also unusual spaces, joiners, and private or unassigned characters.
- `printable_line` is for one line that a model reads, in an error or a quoted log: as for models, and newlines and
  tabs are escaped too.

Characters are written as Python escapes (`\\x1b`, `\\u202e`). Backslashes are not doubled, because the result is only
read and never converted back. Every line of a quotation begins with `> `.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_QUOTE = "> "
_JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiners: emoji and several scripts are written with them, and they only join."""
_ACTIVE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, formatting (bidi overrides, invisible tags), lone surrogates, line and paragraph separators."""
_CUT = " [...]"


def visible(text: str) -> str:
    """Escape all characters that a terminal interprets, other than newlines and tabs."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(character if _is_harmless(character) else _escape(character) for character in text)


def escape_unprintable(text: str) -> str:
    """Escape all characters that are not printable, other than newlines and tabs."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1] for character in text
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


def join_list(lines: Sequence[str], most: int, width: int) -> str:
    """Return a list with at most `most` of `lines`, each cut at `width` characters, and the number of the others."""
    items = [f"- {one_line(line, width)}" for line in lines[:most]]
    if len(lines) > most:
        items.append(f"- and {len(lines) - most} more")
    return "\n".join(items)


def last_lines(text: str, most: int) -> str:
    """Return the last `most` characters of `text` at most, beginning with a whole line if it has several."""
    if len(text) <= most:
        return text
    end = text[-most:]
    return end.partition("\n")[2] or end


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _ACTIVE_CATEGORIES


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


def shown(text: str) -> str:
    """Quote and cut `text` in pure ASCII, so that look-alikes and escape sequences can be recognised."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
