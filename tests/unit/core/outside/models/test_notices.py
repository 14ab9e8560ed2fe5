"""The ledger's notices as sentences."""

from __future__ import annotations

import pytest

from hive_core.outside.models.ledger import LedgerNotice
from hive_core.outside.models.notices import describe_notice


@pytest.mark.parametrize(
    ("notice", "words"),
    [
        (LedgerNotice("warning", "ada", "money", "day", 4.1, 5), ["80%", "a day", "ada", "$4.10 of $5.00"]),
        (
            LedgerNotice("exhausted", "hive", "tokens", "total", 9_999, 10_000),
            ["in all of the hive", "9,999 of 10,000"],
        ),
        (LedgerNotice("exhausted", "ada", "calls", "day", 5, 5), ["00:00 UTC"]),
        (LedgerNotice("wrong_usage", "vendor"), ["The provider vendor"]),
        (LedgerNotice("vendor_refuses", "ada"), ["5 calls of ada"]),
    ],
)
def test_notices_have_the_numbers(notice: LedgerNotice, words: list[str]) -> None:
    """Each notice says whose it is, with its numbers."""
    text = describe_notice(notice)
    assert [word for word in words if word not in text] == []
