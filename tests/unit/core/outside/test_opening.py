"""The parts of the world outside, put together."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from hive_core.outside.opening import Outside


def gateway(*, wanted: bool, connected: bool) -> SimpleNamespace:
    """A gateway that agents want, or not."""
    found = SimpleNamespace(is_wanted=asyncio.Event(), is_connected=connected)
    if wanted:
        found.is_wanted.set()
    return found


@pytest.mark.parametrize(
    ("wanted", "connected", "away"),
    [(False, False, []), (True, True, []), (True, False, ["egress", "relay"])],
)
def test_gateways_that_are_away(wanted: bool, connected: bool, away: list[str]) -> None:
    """A gateway that agents want is named while it is not connected, and not before anybody wants it."""
    outside = MagicMock(egress=gateway(wanted=wanted, connected=connected))
    outside.relay = gateway(wanted=wanted, connected=connected)
    assert Outside.away.__get__(outside) == away
