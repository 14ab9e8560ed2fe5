"""Reads what a program wrote as JSON without trusting its shape: what is missing or of another type is empty. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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
