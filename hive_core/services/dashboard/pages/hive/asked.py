"""Fields of query strings and forms, checked. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hive_core.errors import HiveError

_LONGEST = 300


def word_of(fields: Mapping[str, str], name: str) -> str:
    """Return a short text of a field without spaces around it; empty if it was not sent."""
    return fields.get(name, "").strip()[:_LONGEST]


def choice_of(fields: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    """Return one of `choices`, the first one if the field is anything else."""
    value = fields.get(name, "")
    return value if value in choices else choices[0]


def number_of(fields: Mapping[str, str], name: str) -> int | None:
    """Return a positive whole number, None if the field is anything else."""
    text = fields.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0 else None


def decimal_of(fields: Mapping[str, str], name: str, what: str) -> float:
    """Return a positive number of a form. Raises `invalid_request`, which names it as `what`."""
    try:
        value = float(fields.get(name, "").strip().replace(",", "."))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise HiveError("invalid_request", f"{what} is no number above 0", hint="write 5 or 2.50", status=400)
    return value
