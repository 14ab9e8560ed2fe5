"""Sessions on agents' pages over restarts of the daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_core.agents import page_store
from hive_core.agents.page_access import MOST, Pass, digest
from hive_core.errors import HiveError
from hive_core.layout import Layout
from tests.unit.core.agents.builders import Hive, opened


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


async def entered(hive: Hive, agent: str) -> Pass:
    """A new session, as kept as the daemon's endpoint keeps it."""
    entry = hive.agents.pages.enter(agent, hive.agents.pages.ticket(agent, "operator:eva").secret)
    await hive.database.write(lambda db: page_store.add(db, agent, entry))
    return entry


async def test_a_session_outlives_the_daemon(layout: Layout) -> None:
    """Nobody has to sign in again because the daemon was started anew; on disk stands nothing that lets anybody in."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        entry = await entered(hive, "bob")
        [row] = await hive.database.read(lambda db: list(db.execute("SELECT * FROM page_sessions")))
        assert entry.secret not in map(str, row)
    async with opened(layout) as hive:
        again = hive.agents.pages.check("bob", entry.secret)
        assert again.user == entry.user
        assert again.ends == pytest.approx(entry.ends, abs=0.01)


@pytest.mark.parametrize("purge", [False, True])
async def test_a_session_ends_with_its_agent(layout: Layout, purge: bool) -> None:
    """A destroyed agent's sessions are no good for the next one of its name, nor is one that came meanwhile."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        entry = await entered(hive, "bob")
        late = hive.agents.pages.enter("bob", hive.agents.pages.ticket("bob", "operator:eva").secret)
        await hive.agents.destroy("bob", "operator", purge=purge)
        await hive.database.write(lambda db: page_store.add(db, "bob", late))
        await hive.spawn("bob")
    async with opened(layout) as hive:
        for old in (entry, late):
            with pytest.raises(HiveError, match="the session is over"):
                hive.agents.pages.check("bob", old.secret)


async def test_so_many_are_kept(layout: Layout) -> None:
    """Of an agent's sessions the newest 20 are kept, and none that is over."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        over = Pass("x" * 43, "operator:eva", 1.0)
        await hive.database.write(lambda db: page_store.add(db, "bob", over))
        assert await hive.database.read(page_store.load) == []
        entries = [await entered(hive, "bob") for _ in range(MOST + 1)]
        kept = await hive.database.read(page_store.load)
    assert [session.digest for _, session in kept] == [digest(entry.secret) for entry in entries[1:]]
