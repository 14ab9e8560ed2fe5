"""Look-ups of names: slow ones of an agent are bounded."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hive_core.protocol.network.policy import EgressPolicy
from hive_core.services.egress.agent import EgressAgent
from hive_core.services.egress.checks.addresses import AddressTable
from hive_core.services.egress.traffic import dial
from hive_core.services.egress.traffic.dial import Dialer, Unreachable


async def test_names_behind_slow_ones_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that nobody waits for any more are not looked up later: as many as are looked up at a time, and no more."""
    answer, asked = threading.Event(), []

    def look_up(host: str) -> list[object]:
        asked.append(host)
        answer.wait(20)
        return []

    monkeypatch.setattr(dial, "_addresses", look_up)
    monkeypatch.setattr(dial, "_LOOKUP_SECONDS", 0.05)
    dialer, agent = Dialer(AddressTable()), EgressAgent("ada", EgressPolicy())
    try:
        calls = [dialer.connect(agent, f"x{number}.example.org", 443) for number in range(50)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, Unreachable) for each in found)
        while len(dialer._pending) > 4:
            await asyncio.sleep(0.01)
    finally:
        answer.set()
    while dialer._pending:
        await asyncio.sleep(0.01)
    assert len(asked) == 4
