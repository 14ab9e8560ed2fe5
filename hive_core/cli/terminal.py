"""What the program is connected to."""

from __future__ import annotations

import shutil
import sys


def width() -> int | None:
    """Columns of the terminal on stdout; None if stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def can_ask() -> bool:
    """Whether a question would be seen and could be answered."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
