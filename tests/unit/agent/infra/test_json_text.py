"""JSON of hostile content."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hive_agent.infra.json_text import MAX_EVENT_BYTES, encode


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "\ud800 \u2028 \x1b[2J\r\n\n</script>",
        deep(100_000),
        {1: "a number as key", (2, 3): "a tuple as key"},
        {"long": "x" * 5_000_000},
        ["x" * 1_000] * 5_000,
        10**5_000,
        {"a", "set"},
    ],
    ids=["nan", "inf", "text", "deep", "keys", "long", "many", "huge", "set"],
)
def test_anything_becomes_valid_json(value: object) -> None:
    """Whatever a model or tool made, the event is JSON that browsers read, on one line, and bounded."""
    encoded = encode({"turn": 3, "kind": "call", "input": value})
    assert len(encoded) <= MAX_EVENT_BYTES
    assert b"\n" not in encoded and b"\r" not in encoded

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    decoded = json.loads(encoded, parse_constant=refuse)
    assert (decoded["turn"], decoded["kind"]) == (3, "call")


def test_small_events_are_as_they_are() -> None:
    """What fits is told unchanged."""
    event = {"turn": 1, "text": "ä\n", "input": {"a": [1, None, True, 0.5]}}
    assert json.loads(encode(event)) == event


def test_a_cut_text_says_so() -> None:
    """Who reads a cut text learns how long it was."""
    assert "1,000,000 characters" in json.loads(encode({"text": "x" * 1_000_000}))["text"]
