"""Texts of refusals by the hive, found again in what agent CLIs print."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from hive_core.protocol.models.budgets import BudgetRefusal
from hive_core.protocol.models.refusals import MARKS, find_refusal_text
from hive_core.services.relay.apis.errors import budget_message, error_body

MIDNIGHT = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())


def refusal(**other: object) -> BudgetRefusal:
    given = {"whose": "ada", "measure": "money", "period": "day", "limit": 5, "spent": 4.9, "reserved": 0, "reserve": 1}
    return BudgetRefusal.model_validate({**given, "until": MIDNIGHT, **other})


def test_the_relays_text_is_found_in_an_answer() -> None:
    """The sentence of a budget is found in JSON within other text, whole, with the time at which its day ends."""
    text = budget_message("ada", refusal())
    for api in ("anthropic", "openai", "google"):
        shown = f"API Error: 403 {error_body(api, 403, text).decode()} (request 7)"
        assert find_refusal_text(shown) == ("budget", text, MIDNIGHT)
    assert find_refusal_text(json.dumps({"message": json.dumps({"error": text})})) == ("budget", text, MIDNIGHT)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, "hive-c0re budget ada --add AMOUNT"),
        ({"whose": "all"}, "hive-c0re budget all --add AMOUNT"),
        ({"period": "total", "until": None}, "hive-c0re budget ada --add AMOUNT"),
        ({"measure": "calls"}, "calls_per_day of [budget] in agent.toml"),
        (
            {"measure": "tokens", "period": "total", "until": None, "whose": "all"},
            "tokens_total of budget.hive in the settings",
        ),
    ],
)
def test_a_refusal_says_how_its_limit_is_raised(other: dict[str, object], words: str) -> None:
    """Money is added with a command, which names whose limit it is; other limits are settings."""
    text = budget_message("ada", refusal(**other))
    assert text.endswith(f"The operator can raise it: {words}")
    found = find_refusal_text(text)
    assert found is not None
    assert found.until == (None if "until" in other else MIDNIGHT)


def test_other_messages_are_none() -> None:
    """A text without the mark is no refusal of the hive, and a day that does not exist is no end."""
    assert find_refusal_text("403 Request not allowed; hyperhive: the provider is gone") is None
    found = find_refusal_text(f"{MARKS['stopped']} many refusals. It begins anew at 2026-13-77 00:00 UTC.")
    assert found is not None
    assert (found.kind, found.until) == ("stopped", None)
