"""Cuts what a model or a tool wrote to what a transcript can show. Pure."""

from __future__ import annotations

LONGEST_TEXT = 200_000
"""Characters of what a model says at once."""
_DEEPEST = 20


def cut(said: str, most: int) -> str:
    """At most `most` characters, and how many there were."""
    return said if len(said) <= most else f"{said[:most]}\n[the first {most} of {len(said)} characters]"


def shortened(value: object, most: int, depth: int = 0) -> object:
    """A tool's input with each text cut to `most` characters, and nothing nested without end."""
    if isinstance(value, str):
        return cut(value, most)
    if depth == _DEEPEST and isinstance(value, dict | list):
        return "[nested deeper]"
    if isinstance(value, dict):
        return {str(key): shortened(item, most, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [shortened(item, most, depth + 1) for item in value]
    return value
