"""JSON of bounded size, tolerant reading of JSON, and cutting of long texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_EVENT_BYTES = 256 * 1024
"""Largest JSON of one event."""
_LONGEST_TEXT = 32_000
_LONGEST_REST = 8_000


def encode(data: Mapping[str, object]) -> bytes:
    """`data` as JSON in ASCII. What is too large is cut and says so; what is no JSON is shown as text."""
    try:
        encoded = _dumps(data)
        if len(encoded) <= MAX_EVENT_BYTES:
            return encoded
    except (ValueError, TypeError, RecursionError):  # NaN, a key that is no text, nested too deeply
        pass
    return _dumps({str(key)[:100]: _plain(value) for key, value in list(data.items())[:20]})


def _dumps(value: object) -> bytes:
    # ASCII: a lone surrogate, which a model can produce, cannot be encoded in UTF-8.
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=str).encode("ascii")


def _plain(value: object) -> object:
    """What surely fits: numbers and short texts as they are, of all else the beginning, as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, str):
        return _cut(value, _LONGEST_TEXT)
    try:
        return _cut(json.dumps(value, default=str), _LONGEST_REST)
    except (ValueError, TypeError, RecursionError):
        return "(cannot be shown)"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n… (cut here: {len(text):,} characters in all)"


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


def parsed(line: bytes) -> Mapping[str, Any] | None:
    """The object that a line holds; None for anything else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def field(value: object, *path: str) -> Any:
    """What lies at `path` in nested objects; None if there is nothing."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value: object, *path: str) -> str:
    found = field(value, *path)
    return found if isinstance(found, str) else ""


def count(value: object, *path: str) -> int:
    """A whole number of things, at least 0."""
    found = field(value, *path)
    return max(0, found) if isinstance(found, int) and not isinstance(found, bool) else 0
