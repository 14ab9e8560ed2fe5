"""Code as HTML with a class for each kind of word. Runs in the worker."""

from __future__ import annotations

import html
import re
from contextlib import suppress
from pathlib import PurePosixPath

from pygments import highlight as pygments_highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.util import ClassNotFound

from hive_core.text import visible

_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")
_EXACT = {"stripnl": False, "ensurenl": False}
"""Options of lexers, which otherwise leave out empty lines at both ends."""


def highlight(code: str, language: str) -> str:
    """Return the code as HTML; without classes if no such language is known."""
    lexer: Lexer | None = None
    if _LANGUAGE.fullmatch(language):
        with suppress(ClassNotFound):
            lexer = get_lexer_by_name(language.lower(), **_EXACT)
    return _formatted(visible(code), lexer)


def highlight_lines(text: str, path: str) -> list[str]:
    """Return each line of a file as HTML; its name tells the language. There are as many as `text.split("\\n")` has."""
    try:
        lexer: Lexer | None = get_lexer_for_filename(PurePosixPath(path).name[:100], **_EXACT)
    except ClassNotFound:
        lexer = None
    shown = visible(text)
    lines = _formatted(shown, lexer).split("\n")
    # A lexer may take another character for the end of a line.
    return lines if len(lines) == shown.count("\n") + 1 else [html.escape(line) for line in shown.split("\n")]


def _formatted(code: str, lexer: Lexer | None) -> str:
    if lexer is None:
        return html.escape(code)
    found: str = pygments_highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-"))
    # The formatter ends the last line, also if the code does not.
    return found if code.endswith("\n") else found.removesuffix("\n")
