"""The harness's log: one plain line per event on stderr, which the runtime stores.

Entries name messages by id and errors by kind; they never contain message bodies or values of the environment.
"""

from __future__ import annotations

import logging
import sys
import traceback

_ESCAPES = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)]} | {0x2028: "\\u2028", 0x2029: "\\u2029"}


class OneLine(logging.Formatter):
    """Formats a record as one line, with control characters escaped, so that no text can forge another entry."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()} {record.getMessage()}".translate(_ESCAPES)


def configure(level: int = logging.INFO) -> None:
    """Send the log to stderr, and nothing to stdout, which the MCP server uses for its protocol."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def where(error: BaseException) -> str:
    """The kind of `error` and the line that raised it, without its text, which may quote a message."""
    frames = traceback.extract_tb(error.__traceback__)
    location = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{location}"
