"""Changed files in words, for the command line too, which loads no models."""

from __future__ import annotations

from hive_core.text import format_bytes

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
