"""The bytes of the day that the proxy counts for an agent, while the host's clock is set."""

from __future__ import annotations

import time

import pytest

from hive_core.protocol.network.policy import EgressPolicy
from hive_core.services.egress.agent import EgressAgent

_DAY_SECONDS = 86_400


def test_a_clock_that_is_set_back_gives_no_new_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's clock that goes back over midnight, and over it again, leaves the count; a new day begins a new one."""
    midnight = (int(time.time()) // _DAY_SECONDS + 1) * _DAY_SECONDS
    now = midnight + 60.0
    monkeypatch.setattr(time, "time", lambda: now)
    agent = EgressAgent("ada", EgressPolicy())
    agent.count_sent(1_000)
    assert agent.bytes_today() == 1_000
    now = midnight - 60.0
    assert agent.bytes_today() == 1_000
    agent.count_received(10)
    now = midnight + 120.0
    assert agent.bytes_today() == 1_010
    now = midnight + _DAY_SECONDS + 60.0
    assert agent.bytes_today() == 0
