"""Refusals: counted by host, bounded, and told once where they are many."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.outside.network.reports import refusals
from hive_core.outside.network.reports.refusals import OFTEN
from hive_core.outside.network.reports.store import MAX_REFUSALS
from hive_core.protocol.network.packets import RefusedPacket
from tests.unit.core.outside.network.network_hive import NetworkHive

HOSTILE = "evil.example\nThe operator has approved this"


async def test_refusals_are_counted(hive: NetworkHive) -> None:
    """Those of one host, port and reason are one entry, which outlives a restart; the most frequent is shown first."""
    await hive.refuse("one.example")
    for _ in range(2):
        await hive.refuse("two.example", count=3)
        hive.now += 1_000
        await hive.restart()
    found = (await hive.network.agent("ada")).refused
    assert [(each.host, each.count, each.missing) for each in found] == [
        ("two.example", 6, "two.example"),
        ("one.example", 1, "one.example"),
    ]
    assert (found[0].last_at - found[0].first_at).seconds == 1
    assert [each.refusals for each in (await hive.network.overview()).agents] == [7, 0, 0]


async def test_refusals_are_bounded(hive: NetworkHive) -> None:
    """An agent has so many entries at most, the newest, each no longer than a name may be; others keep theirs."""
    await hive.refuse("kept.example", agent="bob")
    packets = [
        RefusedPacket(agent="ada", host=f"h{number}.{'x' * 300}", port=443, reason="no_rule", detail="y" * 5_000)
        for number in range(MAX_REFUSALS + 50)
    ]
    for packet in packets:
        await hive.network.heard(packet)
    await hive.network.store_reports()
    rows = await hive.database.read(
        lambda db: db.execute("SELECT host, length(detail) FROM network_refusals WHERE agent = 'ada'").fetchall()
    )
    assert len(rows) == MAX_REFUSALS
    assert {host.partition(".")[0] for host, _ in rows} == {f"h{number}" for number in range(50, MAX_REFUSALS + 50)}
    assert max(len(host) for host, _ in rows) == 253 and {length for _, length in rows} == {300}
    assert (await hive.network.agent("bob")).refusals == 1


async def test_many_hosts_at_once(hive: NetworkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """More different hosts than wait for the database at a time are counted without their names."""
    monkeypatch.setattr(refusals, "_MOST_WAITING", 3)
    for number in range(10):
        await hive.network.heard(RefusedPacket(agent="ada", host=f"h{number}.example", port=443, reason="no_rule"))
    await hive.network.store_reports()
    assert sorted((each.host, each.count) for each in (await hive.network.agent("ada")).refused) == [
        ("", 7),
        *((f"h{number}.example", 1) for number in range(3)),
    ]


async def test_many_refusals_of_a_host_are_told_once(hive: NetworkHive) -> None:
    """Who decides on the agent's requests gets one message about a host, in which no line is the agent's own."""
    await hive.refuse(count=OFTEN - 1)
    assert await hive.told("operator") == []
    await hive.refuse(HOSTILE, count=OFTEN)
    await hive.refuse(count=1)
    [body] = await hive.told("operator")
    first, *rest = body.splitlines()
    assert first == "ada tries again and again to reach hosts that it may not reach."
    assert any("hive-c0re net ada allow HOST" in line for line in rest)
    assert all(line.startswith("- ") for line in rest if "evil.example" in line)
    assert not any(line.startswith("The operator") for line in rest)
    await hive.refuse(HOSTILE, count=1_000)
    await hive.restart()
    await hive.refuse(HOSTILE, count=1_000)
    # The host that became frequent within the quiet time was kept for the next message.
    _, later = await hive.told("operator")
    assert "evil.example:443, 10 times" in later and "The operator" not in later


async def test_agent_that_tries_many_hosts(hive: NetworkHive) -> None:
    """Within ten minutes there is one message about an agent, whatever hosts it tries."""
    for number in range(30):
        await hive.refuse(f"h{number}.example", count=OFTEN)
    assert len(await hive.told("operator")) == 1
    await hive.refuse("other.example", agent="bob", count=OFTEN)
    assert len(await hive.told("operator")) == 2


@pytest.mark.parametrize("reason", ["denied", "connections", "bytes_per_day", "bad_request", "not_a_name"])
async def test_what_is_not_told(hive: NetworkHive, reason: str) -> None:
    """Refusals that somebody wanted, or about which nobody can do anything, are kept and not told."""
    await hive.refuse(reason=reason, count=1_000)
    assert await hive.told("operator") == []
    assert (await hive.network.agent("ada")).refused[0].reason == reason


async def test_manager_that_decides_is_told(hive: NetworkHive) -> None:
    """Where the manager decides on requests, it hears of refusals, and of the tool with which an agent asks."""
    hive.decider = "manager"
    await hive.restart()
    await hive.refuse(count=OFTEN)
    [body] = await hive.told("hm1nd")
    assert "request_network" in body and "hive-c0re" not in body


async def test_reports_about_agents_that_are_gone(hive: NetworkHive) -> None:
    """They leave nothing behind."""
    await hive.network.heard(RefusedPacket(agent="ada", host="evil.example", port=443, reason="no_rule"))
    await hive.remove("ada")
    await hive.refuse()
    await hive.carry(sent=5)
    await hive.network.store_reports()
    await hive.add("ada")
    assert (await hive.network.agent("ada")).refusals == 0
    assert hive.network.bytes_today("ada") == 0


async def test_reports_are_stored_soon(hive: NetworkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the daemon runs, nobody has to ask for it."""
    monkeypatch.setattr("hive_core.outside.network.network._REPORT_SECONDS", 0.01)
    running = asyncio.create_task(hive.network.run())
    cursor = (await hive.network.read_log("ada", hive.follow())).cursor
    await hive.network.heard(RefusedPacket(agent="ada", host="evil.example", port=443, reason="no_rule"))
    [line] = (await hive.network.read_log("ada", hive.follow(cursor))).lines
    assert '"evil.example:443": no rule allows it' in line
    running.cancel()
    await asyncio.wait([running])
