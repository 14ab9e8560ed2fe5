"""JSON of what models and tools produced: always valid, on one line, and never larger than a bound."""

from __future__ import annotations

import json
from collections.abc import Mapping

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
