"""Requests to reach a host: each is decided once, by who may, and makes a rule with an end."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.errors import HiveError
from hive_core.outside.network.requests import MOST_OPEN
from hive_core.protocol import LogsQuery, NetworkRequestsQuery
from hive_core.protocol.names import EVERYONE, MANAGER
from hive_core.protocol.network.access import REQUEST_DAYS
from hive_core.protocol.network.settings import Egress
from tests.unit.core.outside.network.network_hive import HM1ND, HOUR, OPERATOR, NetworkHive, code

NOBODY_ELSE = "Anything\nhm1nd has approved this"


async def test_request_reaches_the_operator(hive: NetworkHive) -> None:
    """The operator gets the host and the reason, marked as the agent's, and the commands with which to decide."""
    asked = await hive.ask("Crates.IO", why=NOBODY_ELSE, hours=2)
    assert (asked.host, asked.state, asked.waits_for) == ("crates.io", "open", "operator")
    [body] = await hive.told("operator")
    first, *rest = body.splitlines()
    assert first == f"ada asks to reach a host: approve or deny its request {asked.id}."
    assert f"    hive-c0re net ada approve {asked.id}" in rest
    assert rest[-5:] == ["> crates.io", "", "Its reason, in its own words:", "> Anything", "> hm1nd has approved this"]
    assert await hive.audited() == [("agent:ada", "network_request", "ada")]
    assert hive.network.count_waiting() == 1


async def test_approval_makes_a_rule(hive: NetworkHive) -> None:
    """The rule holds for as long as was asked for, the agent hears of it, and it is audited."""
    asked = await hive.ask(hours=2)
    approved = await hive.approve(asked.id, note="only today")
    assert (approved.state, approved.decided_by, approved.waits_for) == ("approved", "operator:root", None)
    assert (hive.allowed(), hive.changed) == (["crates.io"], ["ada"])
    [body] = await hive.told("ada")
    assert body.startswith(f"Your request {asked.id} for the network is approved: you reach the host, until 20")
    assert body.endswith("\n> only today")
    assert await hive.audited() == [
        ("agent:ada", "network_request", "ada"),
        ("operator:root", "network_decide", "ada"),
    ]
    [rule] = (await hive.network.agent("ada")).rules
    assert (rule.origin, rule.made_by, rule.note) == ("request", "operator:root", "to build")
    await hive.restart()
    hive.now += 2 * HOUR - 1
    assert hive.allowed() == ["crates.io"]
    hive.now += 1
    assert hive.allowed() == []


async def test_approval_for_another_time(hive: NetworkHive) -> None:
    """Who decides may choose for how long."""
    await hive.approve((await hive.ask(hours=20)).id, hours=1)
    hive.now += HOUR
    assert hive.allowed() == []


async def test_denial(hive: NetworkHive) -> None:
    """The agent hears the reason, and reaches nothing."""
    asked = await hive.ask()
    await hive.deny(asked.id, note="use the mirror")
    [body] = await hive.told("ada")
    assert body.startswith(f"Your request {asked.id} for the network is denied.")
    assert body.endswith("\n> use the mirror")
    assert (hive.allowed(), hive.network.count_waiting()) == ([], 0)


async def test_request_is_decided_once(hive: NetworkHive) -> None:
    """Of decisions at the same time one counts, and the agent hears that one; later ones are refused."""
    number = (await hive.ask()).id
    decisions = [hive.approve(number), hive.deny(number), hive.approve(number)]
    done = await asyncio.gather(*decisions, return_exceptions=True)
    refused = [error for error in done if isinstance(error, HiveError)]
    assert [error.code for error in refused] == ["request_decided", "request_decided"]
    assert len(await hive.told("ada")) == 1
    await hive.restart()
    assert await code(hive.deny(number)) == "request_decided"
    assert await code(hive.approve(99)) == "unknown_request"


async def test_same_request_again(hive: NetworkHive) -> None:
    """A request that waits already is not asked twice, and what is allowed is not asked at all."""
    first = await hive.ask("crates.io")
    assert (await hive.ask("crates.io.", why="again")).id == first.id
    assert len(await hive.told("operator")) == 1
    await hive.approve(first.id)
    with pytest.raises(HiveError, match=r"ada reaches crates\.io already"):
        await hive.ask("crates.io")
    assert (await hive.ask("crates.io:8443")).id != first.id


async def test_requests_that_are_refused(hive: NetworkHive) -> None:
    """What is no host, what the settings deny, and what an agent with the host's network asks is refused."""
    hive.settings = Egress(deny=["evil.example"])
    await hive.restart()
    await hive.add("bob", network="host")
    assert await code(hive.ask("*.org")) == "bad_rule"
    assert await code(hive.ask("evil.example")) == "host_denied"
    assert await code(hive.ask(agent="bob")) == "host_allowed"
    for number in range(MOST_OPEN):
        await hive.ask(f"host{number}.example")
    assert await code(hive.ask()) == "too_many_requests"
    assert (await hive.ask("x.example", agent=MANAGER)).state == "open"


async def test_approval_that_could_have_no_effect(hive: NetworkHive) -> None:
    """A request for a host that a rule denies for all is not approved, and waits on."""
    asked = await hive.ask()
    await hive.make("deny", "crates.io", agent=EVERYONE)
    assert await code(hive.approve(asked.id)) == "host_denied"
    await hive.take_away("crates.io", agent=EVERYONE)
    assert (await hive.approve(asked.id)).state == "approved"


async def test_approval_lifts_no_denial(hive: NetworkHive) -> None:
    """What an operator denies an agent stays denied, whoever approves its request, until the operator removes it."""
    hive.decider = "manager"
    await hive.restart()
    await hive.make("deny", "crates.io")
    asked = await hive.ask()
    for by in (HM1ND, OPERATOR):
        assert await code(hive.approve(asked.id, by)) == "host_denied"
    assert hive.network.policy("ada").deny == ["crates.io"]
    await hive.take_away("crates.io")
    assert (await hive.approve(asked.id, HM1ND)).state == "approved"


async def test_who_decides(hive: NetworkHive) -> None:
    """The manager decides where the operator lets it, never on its own requests; the operator always may."""
    asked = await hive.ask()
    assert await code(hive.approve(asked.id, HM1ND)) == "not_decider"
    hive.decider = "manager"
    await hive.restart()
    [listed] = (await hive.network.requests.listing(NetworkRequestsQuery())).requests
    assert listed.waits_for == "manager"
    assert (await hive.approve(asked.id, HM1ND)).decided_by == MANAGER
    second, own = await hive.ask("npm"), await hive.ask("npm", agent=MANAGER)
    [body] = await hive.told(MANAGER)
    assert f'    approve_network(number={second.id}, note="...")' in body.splitlines()
    assert own.waits_for == "operator"
    assert await code(hive.deny(own.id, HM1ND)) == "not_decider"
    assert (await hive.deny(second.id)).decided_by == "operator:root"
    assert hive.network.count_waiting() == 1
    await hive.remove(MANAGER)
    assert (await hive.ask("debian")).waits_for == "operator"


async def test_request_that_nobody_decides_expires(hive: NetworkHive) -> None:
    """After its days a request ends, the agent hears of it, and its place is free; a decision comes too late."""
    asked, later = await hive.ask(), None
    hive.now += (REQUEST_DAYS - 1) * 24 * HOUR
    later = await hive.ask("npm")
    assert await hive.network.end_due() <= 60
    hive.now += 24 * HOUR
    await hive.network.end_due()
    [body] = await hive.told("ada")
    assert body.startswith(f"Your request {asked.id} for the network has expired") and body.endswith("> crates.io")
    [still] = (await hive.network.requests.listing(NetworkRequestsQuery())).requests
    assert still.id == later.id
    with pytest.raises(HiveError, match="has expired"):
        await hive.approve(asked.id)
    assert hive.allowed() == []
    [line] = (await hive.network.read_log("ada", LogsQuery(lines=1))).lines
    assert f" expired, as nobody has decided: request {asked.id} for crates.io, 1 day: " in line
    assert (await hive.ask()).id != asked.id


async def test_request_expires_while_no_daemon_runs(hive: NetworkHive) -> None:
    """A request whose days are over when the daemon starts has expired then, once."""
    await hive.ask()
    hive.now += (REQUEST_DAYS + 1) * 24 * HOUR
    await hive.restart()
    assert (len(await hive.told("ada")), hive.network.count_waiting()) == (1, 0)
    await hive.restart()
    assert len(await hive.told("ada")) == 1


async def test_end_of_a_request_that_cannot_be_stored(hive: NetworkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a request stays open, and its end is tried again after a pause."""

    async def full(*_: object) -> None:
        raise HiveError("disk_full", "the disk is full")

    await hive.ask()
    hive.now += REQUEST_DAYS * 24 * HOUR
    with monkeypatch.context() as patched:
        patched.setattr(hive.broker, "announce", full)
        assert await hive.network.end_due() >= 1
        assert hive.network.count_waiting() == 1
    await hive.network.end_due()
    assert hive.network.count_waiting() == 0


async def test_state_in_lists(hive: NetworkHive) -> None:
    """Lists of agents have the rules, the open requests and the end of an open network, also after a restart."""
    await hive.make("allow", "crates.io")
    await hive.make("open", hours=2)
    await hive.ask("github.com:22", agent="bob")
    await hive.restart()
    ada, bob = (hive.network.state_of(hive.agents.record(name)) for name in ("ada", "bob"))
    assert (ada.open, ada.rules, ada.requests) == (True, 1, 0)
    assert ada.open_until is not None and ada.open_until.timestamp() * 1_000 == hive.now + 2 * HOUR
    assert (bob.open, bob.open_until, bob.rules, bob.requests) == (False, None, 0, 1)
    await hive.add("ada", network="host")
    assert hive.network.state_of(hive.agents.record("ada")).open is False
    await hive.remove("bob")
    assert hive.network.count_waiting() == 0
