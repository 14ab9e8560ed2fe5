"""Requests for hosts."""

from __future__ import annotations

import pytest

from hive_core.services.dashboard.pages.decisions.access import length_in_words


@pytest.mark.parametrize(
    ("hours", "words"), [(0.5, "30 minutes"), (1, "1 hour"), (24, "24 hours"), (72, "3 days"), (36.5, "36.5 hours")]
)
def test_lengths_of_time(hours: float, words: str) -> None:
    """A duration is told in the unit that fits."""
    assert length_in_words(hours) == words
