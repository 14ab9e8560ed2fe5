"""Encoding of JSON with a bounded size, tolerant reading of JSON, and truncation of long texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_EVENT_BYTES = 256 * 1024
"""Largest JSON of one event."""
_LONGEST_TEXT = 32_000
_LONGEST_REST = 8_000


def encode(data: Mapping[str, object]) -> bytes:
    """Encode `data` as JSON in ASCII. Large values are truncated, and values that are no JSON are encoded as text."""
    try:
        encoded = _dumps(data)
        if len(encoded) <= MAX_EVENT_BYTES:
            return encoded
    except (ValueError, TypeError, RecursionError):  # NaN, a key that is no text, nested too deeply
        pass
    return _dumps({str(key)[:100]: _plain(value) for key, value in list(data.items())[:20]})


def _dumps(value: object) -> bytes:
    # ASCII, because a lone surrogate, which a model can produce, cannot be encoded in UTF-8.
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=str).encode("ascii")


def _plain(value: object) -> object:
    """Reduce a value to one of bounded size: numbers and short texts as they are, anything else as truncated text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, str):
        return truncate(value, _LONGEST_TEXT)
    try:
        return truncate(json.dumps(value, default=str), _LONGEST_REST)
    except (ValueError, TypeError, RecursionError):
        return "(cannot be shown)"


LONGEST_TEXT = 200_000
"""Characters of one text of a model in the transcript."""
_DEEPEST = 20


def truncate(text: str, most: int) -> str:
    """Truncate `text` to `most` characters, followed by a line with its length."""
    return text if len(text) <= most else f"{text[:most]}\n[the first {most:,} of {len(text):,} characters]"


def truncate_nested(value: object, most: int, depth: int = 0) -> object:
    """Truncate each text in the input of a tool to `most` characters, and limit the depth of nesting."""
    if isinstance(value, str):
        return truncate(value, most)
    if depth == _DEEPEST and isinstance(value, dict | list):
        return "[nested deeper]"
    if isinstance(value, dict):
        return {str(key): truncate_nested(item, most, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [truncate_nested(item, most, depth + 1) for item in value]
    return value


def parse_object(line: bytes) -> dict[str, Any] | None:
    """Parse a line of JSON; None if it is no object."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def field(value: object, *path: str) -> Any:
    """The value at `path` in nested objects; None if there is none."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value: object, *path: str) -> str:
    found = field(value, *path)
    return found if isinstance(found, str) else ""


def count(value: object, *path: str) -> int:
    """The integer at `path`, at least 0; 0 if there is none."""
    found = field(value, *path)
    return max(0, found) if isinstance(found, int) and not isinstance(found, bool) else 0
