"""Text from agents, made safe for a terminal: nothing in it can move the cursor, colour, hide or reorder.

What a terminal would act on instead of showing is written as a Python escape (`\\x1b`, `\\u202e`). The escape of
a backslash is not doubled: the result is for reading, not for turning back.
"""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiners: emoji and several scripts are written with them, and they only join."""
_ACTED_ON = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, formatting (bidi overrides, invisible tags), lone surrogates, line and paragraph separators."""


def visible(text: str) -> str:
    """`text` with everything that a terminal acts on escaped; newlines and tabs are kept."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(character if _harmless(character) else _escaped(character) for character in text)


def one_line(text: str) -> str:
    """As `visible`, with newlines and tabs escaped as well: for places where one line is one thing."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def first_line(text: str) -> str:
    """The first line of `text`, as `one_line`, with a mark if there are more."""
    first, _, rest = text.strip().partition("\n")
    return one_line(first.rstrip()) + (" …" if rest.strip() else "")


def _harmless(character: str) -> bool:
    return character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _ACTED_ON


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
