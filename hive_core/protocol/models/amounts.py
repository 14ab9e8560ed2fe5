"""Amounts of the ledger in words, for the command line and for web pages. Without pydantic, for a quick start."""

from __future__ import annotations

from collections.abc import Mapping

FLAGS: Mapping[str, str] = {
    "unknown_model": "at the price of the vendor's dearest model, as this one has none in the table",
    "reserve": "as much as was reserved, as the vendor has told no usable figures",
    "estimated": "of an answer that broke off: the figures so far, and the text that came",
    "implausible": "by figures of the vendor's that do not fit the request or the answer",
    "over_reserve": "more than was reserved before the call",
}
"""The meaning of the cost of a call with a flag."""


def dollars(value: object) -> str:
    """Format US dollars; a small amount with what it has."""
    number = float(value) if isinstance(value, int | float) else 0.0
    return f"${number:,.2f}" if number == 0 or abs(number) >= 0.095 else f"${number:.4f}"


def tokens(value: object) -> str:
    """Format a number of tokens with at most four digits."""
    number = float(value) if isinstance(value, int | float) else 0.0
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 9.9995 or (number >= size and unit != "k"):
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"
