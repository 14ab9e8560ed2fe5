"""Tickets and sessions of agents' pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hive_core.agents import page_access
from hive_core.agents.page_access import MOST, SESSION_SECONDS, TICKET_SECONDS, PageAccess, PageToken, digest
from hive_core.errors import HiveError
from hive_core.layout import Layout
from tests.unit.core.agents.builders import AgentHive, opened

USER = "operator:root"


class Clock:
    """Seconds, moved by tests."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> PageAccess:
    return PageAccess(clock)


def code(call: Callable[[], object]) -> str:
    """The code with which something is refused."""
    with pytest.raises(HiveError) as refusal:
        call()
    return refusal.value.code


def session(access: PageAccess, agent: str = "ada") -> str:
    return access.redeem_ticket(agent, access.ticket(agent, USER).secret).secret


def test_a_ticket_is_good_once(access: PageAccess) -> None:
    """A ticket becomes one session, of the user it was made for; the second time it is refused."""
    ticket = access.ticket("ada", USER).secret
    entered = access.redeem_ticket("ada", ticket)
    assert (entered.user, access.check_session("ada", entered.secret)) == (USER, entered)
    assert code(lambda: access.redeem_ticket("ada", ticket)) == "bad_ticket"
    assert len(ticket) >= 43, "32 random bytes"
    assert ticket != entered.secret


def test_a_ticket_is_good_for_its_agent_only(access: PageAccess) -> None:
    """On another agent's page neither a ticket nor a session lets anybody in, and the ticket is not used up."""
    ticket = access.ticket("ada", USER).secret
    assert code(lambda: access.redeem_ticket("bob", ticket)) == "bad_ticket"
    entered = access.redeem_ticket("ada", ticket).secret
    assert code(lambda: access.check_session("bob", entered)) == "bad_session"
    assert code(lambda: access.check_session("ada", ticket)) == "bad_session"


@pytest.mark.parametrize("secret", ["x", "", "\u00e9", "x" * 128])
def test_what_is_none(access: PageAccess, secret: str) -> None:
    """What is no ticket or session is refused, also where there are some."""
    access.ticket("ada", USER)
    session(access)
    assert code(lambda: access.redeem_ticket("ada", secret)) == "bad_ticket"
    assert code(lambda: access.check_session("ada", secret)) == "bad_session"


def test_they_end(access: PageAccess, clock: Clock) -> None:
    """A ticket is good for two minutes, a session for twelve hours, and not longer for being used."""
    late, used = access.ticket("ada", USER).secret, session(access)
    clock.now += TICKET_SECONDS - 1
    access.check_session("ada", used)
    clock.now += 1
    assert code(lambda: access.redeem_ticket("ada", late)) == "bad_ticket"
    clock.now += SESSION_SECONDS - TICKET_SECONDS - 1
    assert access.remaining(access.check_session("ada", used)) == 1.0
    clock.now += 1
    assert code(lambda: access.check_session("ada", used)) == "bad_session"
    assert code(lambda: access.refresh_session("ada", used)) == "bad_session"


def test_there_are_so_many(access: PageAccess) -> None:
    """An agent has 20 tickets and 20 sessions at most; the oldest gives way, and other agents' are not touched."""
    other = session(access, "bob")
    sessions = [session(access) for _ in range(21)]
    tickets = [access.ticket("ada", USER).secret for _ in range(21)]
    assert code(lambda: access.check_session("ada", sessions[0])) == "bad_session"
    assert code(lambda: access.redeem_ticket("ada", tickets[0])) == "bad_ticket"
    access.check_session("ada", sessions[1])
    access.check_session("bob", other)
    access.redeem_ticket("ada", tickets[1])


def test_they_end_with_the_agent(access: PageAccess) -> None:
    """Nobody who was let in to a destroyed agent is let in to the next one of its name."""
    ticket, used, other = access.ticket("ada", USER).secret, session(access), session(access, "bob")
    access.forget("ada")
    assert code(lambda: access.redeem_ticket("ada", ticket)) == "bad_ticket"
    assert code(lambda: access.check_session("ada", used)) == "bad_session"
    access.check_session("bob", other)


def test_nobody_types_that_fast(access: PageAccess, clock: Clock) -> None:
    """60 messages and answers a minute on one agent's page, over all of its sessions; then they wait."""
    first, second, other = session(access), session(access), session(access, "bob")
    for place in range(60):
        assert access.refresh_session("ada", (first, second)[place % 2]).user == USER
        clock.now += 0.5
    assert code(lambda: access.refresh_session("ada", first)) == "too_much_typed"
    access.check_session("ada", first)
    access.refresh_session("bob", other)
    clock.now += 30.5
    access.refresh_session("ada", first)


def test_a_clock_that_is_set_back_silences_nobody(access: PageAccess, clock: Clock) -> None:
    """However far the clock is set back, the operator can go on typing."""
    used = session(access)
    for _ in range(60):
        access.refresh_session("ada", used)
    assert code(lambda: access.refresh_session("ada", used)) == "too_much_typed"
    clock.now -= 3_600
    access.refresh_session("ada", used)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


async def entered(hive: AgentHive, agent: str) -> PageToken:
    """A new session, as kept as the daemon's endpoint keeps it."""
    entry = hive.page_access.redeem_ticket(agent, hive.page_access.ticket(agent, "operator:eva").secret)
    await hive.database.write(lambda db: page_access.add_session(db, agent, entry))
    return entry


async def test_a_session_outlives_the_daemon(layout: Layout) -> None:
    """Nobody has to sign in again because the daemon was started anew; on disk stands nothing that lets anybody in."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        entry = await entered(hive, "bob")
        [row] = await hive.database.read(lambda db: list(db.execute("SELECT * FROM page_sessions")))
        assert entry.secret not in map(str, row)
    async with opened(layout) as hive:
        again = hive.page_access.check_session("bob", entry.secret)
        assert again.user == entry.user
        assert again.ends == pytest.approx(entry.ends, abs=0.01)


@pytest.mark.parametrize("purge", [False, True])
async def test_a_session_ends_with_its_agent(layout: Layout, purge: bool) -> None:
    """A destroyed agent's sessions are no good for the next one of its name, nor is one that came meanwhile."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        entry = await entered(hive, "bob")
        late = hive.page_access.redeem_ticket("bob", hive.page_access.ticket("bob", "operator:eva").secret)
        await hive.lifecycle.destroy("bob", "operator", purge=purge)
        await hive.database.write(lambda db: page_access.add_session(db, "bob", late))
        await hive.spawn("bob")
    async with opened(layout) as hive:
        for old in (entry, late):
            with pytest.raises(HiveError, match="the session is over"):
                hive.page_access.check_session("bob", old.secret)


async def test_so_many_are_kept(layout: Layout) -> None:
    """Of an agent's sessions the newest 20 are kept, and none that is over."""
    async with opened(layout) as hive:
        await hive.spawn("bob")
        over = PageToken("x" * 43, "operator:eva", 1.0)
        await hive.database.write(lambda db: page_access.add_session(db, "bob", over))
        assert await hive.database.read(page_access.load_sessions) == []
        entries = [await entered(hive, "bob") for _ in range(MOST + 1)]
        kept = await hive.database.read(page_access.load_sessions)
    assert [session.digest for _, session in kept] == [digest(entry.secret) for entry in entries[1:]]
