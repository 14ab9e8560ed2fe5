"""JSON that every reader understands alike: no key twice, bounded nesting, UTF-8 only, finite numbers."""

from __future__ import annotations

import json
from typing import Any

MOST_DEPTH = 128
"""Deepest nesting of objects and lists."""


MOST_MARKS = 1_000_000
"""Most commas and opening brackets, also those within texts: a document of as many bytes may take many times as much
memory if it has only small values."""


class BadJson(ValueError):
    """The reason for which a text is refused, in words for its author."""


def parse(data: bytes) -> dict[str, Any]:
    """Read a JSON document, which must be an object. Raises `BadJson`."""
    if sum(map(data.count, (b",", b"{", b"["))) > MOST_MARKS:
        raise BadJson(f"it has more than {MOST_MARKS:,} commas and opening brackets")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadJson("it is not UTF-8") from None
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except BadJson:
        raise
    except RecursionError:
        raise BadJson(f"it is nested more than {MOST_DEPTH} deep") from None
    except ValueError:  # Also for a whole number of thousands of digits.
        raise BadJson("it is no valid JSON") from None
    if not isinstance(value, dict):
        raise BadJson("it must be an object")
    _check_depth(value)
    return value


def serialise(value: Any) -> bytes:
    """Write a value as JSON. Raises `BadJson` for a number that JSON has not."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise BadJson("a number in it is too large") from None
    try:
        return text.encode()
    except UnicodeEncodeError:  # Halves of characters, which only an escape can write.
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJson(f"it has the key {twice[:60]!r} twice")
    return found


def _constant(name: str) -> Any:
    raise BadJson(f"{name} is no number of JSON")


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH):
        if not level:
            return
        level = [
            each
            for container in level
            for each in (container.values() if isinstance(container, dict) else container)
            if isinstance(each, dict | list)
        ]
    if level:
        raise BadJson(f"it is nested more than {MOST_DEPTH} deep")
