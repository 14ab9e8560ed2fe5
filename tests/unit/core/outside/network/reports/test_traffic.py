"""Traffic through the proxy: bytes by days, and connections now."""

from __future__ import annotations

from tests.unit.core.outside.network.network_hive import HOUR, NetworkHive

DAY = 24 * HOUR


async def test_bytes_of_a_day(hive: NetworkHive) -> None:
    """They are added up, outlive a restart of the daemon, and begin at nothing on the next day (UTC)."""
    hive.now = 20_000 * DAY + HOUR
    for _ in range(3):
        await hive.carry(connections=2, sent=10, received=100)
        await hive.network.store_reports()
    await hive.restart()
    await hive.carry(connections=4, sent=1)
    assert hive.network.bytes_today("ada") == 331
    traffic = (await hive.network.agent("ada")).traffic
    assert (traffic.connections, traffic.sent_today, traffic.received_today) == (4, 31, 300)
    hive.now = 20_001 * DAY
    assert hive.network.bytes_today("ada") == 0
    await hive.network.store_reports()
    await hive.carry(received=7)
    await hive.network.store_reports()
    await hive.restart()
    assert hive.network.bytes_today("ada") == 7


async def test_days_are_kept_for_a_month(hive: NetworkHive) -> None:
    """The traffic of older days is removed when there is new."""
    for day in (20_000, 20_005, 20_032):
        hive.now = day * DAY
        await hive.carry(sent=1)
        await hive.network.store_reports()
    days = await hive.database.read(lambda db: db.execute("SELECT day FROM network_traffic").fetchall())
    assert days == [(20_005,), (20_032,)]


async def test_end_of_the_proxy(hive: NetworkHive) -> None:
    """Its connections have ended with it."""
    await hive.carry(connections=5)
    hive.network.proxy_ended()
    assert (await hive.network.agent("ada")).traffic.connections == 0
