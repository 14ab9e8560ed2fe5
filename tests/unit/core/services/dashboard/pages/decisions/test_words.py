"""Proposals and people, in words."""

from __future__ import annotations

from hive_core.services.dashboard.pages.decisions.words import is_by
from hive_core.services.dashboard.visit import Visitor


def test_own_proposals() -> None:
    """A person sees no button to approve what they proposed."""
    ann = Visitor("ann", "operator")
    assert is_by({"by": "person:ann"}, ann) and is_by({"by": "operator:root"}, Visitor("operator", "admin"))
    assert not is_by({"by": "operator:root"}, ann)
    assert not is_by({"by": "person:bob"}, ann) and not is_by({"by": "ann"}, ann)
