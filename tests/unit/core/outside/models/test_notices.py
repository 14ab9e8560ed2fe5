"""The ledger's notices as sentences."""

from __future__ import annotations

import pytest

from hive_core.outside.models.ledger import LedgerNotice
from hive_core.outside.models.notices import describe_notice


@pytest.mark.parametrize(
    ("notice", "words"),
    [
        (
            LedgerNotice("warning", "ada", "money", "day", 4.1, 5),
            ["80%", "a day", "ada", "$4.10 of $5.00", "hive-c0re budget ada --add"],
        ),
        (LedgerNotice("exhausted", "all", "money", "total", 5, 5), ["hive-c0re budget all --add", "Agents wait"]),
        (
            LedgerNotice("exhausted", "all", "tokens", "total", 9_999, 10_000),
            ["in all of the hive", "9,999 of 10,000", "tokens_total of budget.hive in the settings"],
        ),
        (LedgerNotice("exhausted", "ada", "calls", "day", 5, 5), ["00:00 UTC", "calls_per_day of [budget]"]),
        (LedgerNotice("wrong_usage", "vendor"), ["The provider vendor"]),
        (LedgerNotice("vendor_refuses", "ada", provider="main"), ["provider main", "hive-c0re resume ada"]),
    ],
)
def test_notices_have_the_numbers(notice: LedgerNotice, words: list[str]) -> None:
    """Each notice says whose it is, with its numbers and the command, or the setting, that helps."""
    text = describe_notice(notice)
    assert [word for word in words if word not in text] == []
