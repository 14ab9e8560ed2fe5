"""Web ports."""

from __future__ import annotations

import sqlite3

import pytest

from hive_core.agents import store
from hive_core.agents.store import AgentRecord, choose_port
from hive_core.errors import HiveError
from hive_core.infra.database.migrations import migrate
from hive_core.protocol import AgentConfig


def test_ports_are_where_the_design_says() -> None:
    """The manager has 8000; the others 8100 + FNV-1a(name) % 900. The hashes are from the FNV reference vectors."""
    assert choose_port("hm1nd", set()) == 8000
    assert choose_port("a", set()) == 8100 + 0xE40C292C % 900
    assert choose_port("foobar", set()) == 8100 + 0xBF9CF968 % 900


def test_a_taken_port_gives_the_next_free_one() -> None:
    """The search goes on from the preferred port and around the end."""
    first = choose_port("bob", set())
    assert choose_port("bob", {first}) == 8100 + (first - 8100 + 1) % 900
    assert choose_port("bob", set(range(8100, 9000)) - {8100}) == 8100
    with pytest.raises(HiveError, match="900"):
        choose_port("bob", range(8100, 9000))


def test_a_port_never_moves() -> None:
    """A re-created agent has its port again, even if another wanted it meanwhile; a purged one's is free."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    bob = AgentRecord("bob", "agent", "running", AgentConfig(), "", 0, 0)
    port = store.insert(db, bob).web_port
    store.delete(db, "bob", forget_port=False)
    assert store.insert(db, bob).web_port == port
    assert [record.web_port for record in store.load(db)] == [port]
    store.delete(db, "bob", forget_port=True)
    assert db.execute("SELECT count(*) FROM web_ports").fetchone() == (0,)
    db.close()
