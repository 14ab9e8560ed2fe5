"""The process that makes HTML of texts: a line of JSON for each, and a line for each answer.

A text can be made so that a parser or a regular expression takes hours. Each has a limit of processor time, and the
whole process one of memory.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from types import FrameType
from typing import Any

from hive_core.services.dashboard.markup.highlight import highlight, highlight_lines
from hive_core.services.dashboard.markup.markdown import render

CPU_SECONDS = 0.7
_MEMORY = 1024**3
MOST_BYTES = 4 * 1024 * 1024
"""Size of one answer."""


class _TooLong(Exception):
    pass


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the HTML that is asked for, or why there is none."""
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
        try:
            found = _make(request)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _TooLong:
        return {"problem": "it takes too long"}
    except (MemoryError, RecursionError):
        return {"problem": "it is too large"}
    except Exception as error:
        return {"problem": type(error).__name__}
    size = sum(map(len, found)) if isinstance(found, list) else len(found)
    return {"html": found} if size <= MOST_BYTES else {"problem": "it is too large"}


def _make(request: dict[str, Any]) -> str | list[str]:
    text = request["text"]
    match request["do"]:
        case "markdown":
            return render(text)
        case "lines":
            return highlight_lines(text, request["hint"])
    return highlight(text, request["hint"])


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _TooLong


def main() -> None:
    """Answer requests until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGVTALRM, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
