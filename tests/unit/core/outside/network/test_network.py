"""The network of agents: rules begin and end when they should, and whoever has to hears of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hive_core.errors import HiveError
from hive_core.outside.network.rules import MAX_RULES
from hive_core.outside.network.store import RuleRow, changed_rules
from hive_core.protocol import Event, LogsQuery
from hive_core.protocol.network.services import EgressService
from hive_core.protocol.network.settings import Egress
from tests.unit.core.outside.network.network_hive import EVERYONE, HOUR, OPERATOR, NetworkHive, code


async def test_policy_of_an_agent(hive: NetworkHive) -> None:
    """It holds the settings, the approved configuration and the rules, each once, and is the agent's own."""
    hive.settings = Egress(allow=["npm"], deny=["evil.example"], encrypted_hello=True)
    await hive.restart()
    await hive.add("ada", allowed_hosts=["crates.io", "npm"])
    await hive.make("allow", "github.com:22")
    await hive.make("deny", "github.com", agent=EVERYONE)
    policy = hive.network.policy("ada")
    assert policy.allow == ["npm", "crates.io", "github.com:22"]
    assert policy.deny == ["evil.example", "github.com"]
    assert (policy.open, policy.encrypted_hello, policy.limits.connections) == (False, True, 256)
    assert hive.network.policy("bob").allow == ["npm"]


async def test_services_of_an_agent(hive: NetworkHive) -> None:
    """They are what its configuration names, each with its port, and without an address where there is no offer any
    more.
    """
    hive.services = {"db": "127.0.0.1:5432", "web": "127.0.0.1:80"}
    await hive.restart()
    await hive.add("ada", services=["db", "gone"])
    services = {"db": EgressService(port=3200, address="127.0.0.1:5432"), "gone": EgressService(port=3201)}
    assert hive.network.policy("ada").services == services
    shown = [each.model_dump() for each in (await hive.network.agent("ada")).services]
    assert shown == [
        {"name": "db", "address": "127.0.0.1:5432", "in_agent": "127.0.0.1:3200"},
        {"name": "gone", "address": None, "in_agent": "127.0.0.1:3201"},
    ]
    assert hive.network.policy("bob").services == {}


async def test_rule_with_an_end(hive: NetworkHive) -> None:
    """It holds to its end, and not one moment longer, also before the end is stored."""
    await hive.make("allow", "crates.io", hours=2)
    hive.now += 2 * HOUR - 1
    assert hive.allowed() == ["crates.io"]
    hive.now += 1
    assert hive.allowed() == []
    hive.changed.clear()
    await hive.network.end_due()
    assert hive.changed == ["ada"]
    assert await hive.network.end_due() == 60.0
    assert hive.changed == ["ada"]


async def test_end_while_no_daemon_runs(hive: NetworkHive) -> None:
    """A rule goes on after a restart, and one whose end has passed meanwhile has ended at the start."""
    await hive.make("open", hours=1)
    await hive.make("allow", "crates.io", hours=3)
    await hive.make("allow", "npm")
    await hive.restart()
    assert hive.network.policy("ada").open
    hive.now += 2 * HOUR
    await hive.restart()
    assert not hive.network.policy("ada").open
    assert sorted(hive.allowed()) == ["crates.io", "npm"]
    [ended] = [line for line in (await hive.network.read_log("ada", LogsQuery())).lines if "ended" in line]
    assert "ended by time: opened everything by operator:root" in ended


async def test_time_ends_rules_by_itself(hive: NetworkHive) -> None:
    """While the daemon runs, the proxy is told of an end without anybody asking."""
    changed: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(hive.network.run())
    hive.network.on_changed = changed.put_nowait
    await hive.make("open", hours=1)
    assert await changed.get() == "ada"
    hive.now += HOUR
    await hive.make("allow", "npm", agent="bob")  # It looks at the clock after each change.
    assert {await changed.get(), await changed.get()} == {"ada", "bob"}
    assert not hive.network.policy("ada").open
    running.cancel()
    await asyncio.wait([running])


async def test_rule_takes_the_place_of_another(hive: NetworkHive) -> None:
    """A rule for the same host replaces the earlier one, whatever it did, and can be removed."""
    await hive.make("deny", "crates.io")
    await hive.make("allow", "CRATES.IO", hours=1)
    assert (hive.allowed(), hive.denied()) == (["crates.io"], [])
    await hive.make("allow", "crates.io")
    hive.now += 2 * HOUR
    assert hive.allowed() == ["crates.io"]
    await hive.take_away("crates.io.")
    assert hive.allowed() == []
    assert await code(hive.take_away("crates.io")) == "unknown_rule"
    assert {action for _, action, _ in await hive.audited()} == {"network_rule", "network_remove"}


async def test_rule_for_all(hive: NetworkHive) -> None:
    """It holds for every agent, also for one that comes later, and the proxy is told of each."""
    await hive.make("allow", "npm", agent=EVERYONE)
    assert sorted(hive.changed) == [EVERYONE, "ada", "bob", "hm1nd"]
    await hive.add("cleo")
    assert hive.allowed("cleo") == ["npm"]
    assert await code(hive.take_away("npm")) == "unknown_rule"
    await hive.take_away("npm", agent=EVERYONE)
    assert hive.allowed("cleo") == []


async def test_close(hive: NetworkHive) -> None:
    """It ends what is open of the agent, and asks for the end of connections after the proxy knows the policy."""
    events: list[str] = []
    await hive.make("open", hours=1)
    await hive.make("open", hours=1, agent="bob")
    await hive.make("allow", "npm")
    hive.network.on_changed = lambda name: events.append(f"changed {name}, open {hive.network.policy(name).open}")
    hive.network.on_close = lambda name: events.append(f"close {name}")
    await hive.network.close_all("ada", OPERATOR)
    assert events == ["changed ada, open False", "close ada"]
    assert (hive.allowed(), hive.network.open_agents()) == (["npm"], ["bob"])
    await hive.restart()
    assert hive.network.open_agents() == ["bob"]


@pytest.mark.parametrize(
    ("effect", "host", "more", "expected"),
    [
        ("allow", "*.com", {}, "bad_rule"),
        ("allow", "127.0.0.1", {}, "bad_rule"),
        ("allow", "pipy", {}, "bad_rule"),
        ("deny", "mail.example:25", {}, "bad_rule"),
        ("allow", None, {}, "invalid_request"),
        ("open", None, {}, "invalid_request"),
        ("open", "crates.io", {"hours": 1}, "invalid_request"),
        ("allow", "www.evil.example", {}, "host_denied"),
        ("allow", "*.evil.example", {}, "host_denied"),
    ],
)
async def test_rules_that_are_refused(
    hive: NetworkHive, effect: str, host: str | None, more: dict[str, Any], expected: str
) -> None:
    """What is no rule, or could have no effect, is refused and changes nothing."""
    hive.settings = Egress(deny=["*.evil.example"])
    await hive.restart()
    assert await code(hive.make(effect, host, **more)) == expected
    assert (hive.allowed(), hive.changed) == ([], [])
    assert await hive.audited() == []


async def test_unknown_set_has_a_suggestion(hive: NetworkHive) -> None:
    """A mistyped name of a set is refused with the one that was probably meant."""
    with pytest.raises(HiveError, match="did you mean 'github'"):
        await hive.make("allow", "githbu")


async def test_rule_that_another_denies(hive: NetworkHive) -> None:
    """An agent is not allowed what a rule denies for all, or for it, and the error says how to remove that rule."""
    await hive.make("deny", "github", agent=EVERYONE)
    await hive.make("deny", "*.crates.io")
    with pytest.raises(HiveError) as refusal:
        await hive.make("allow", "github.com")
    assert refusal.value.hint == "remove it first: hive-c0re net all remove github"
    with pytest.raises(HiveError) as refusal:
        await hive.make("allow", "static.crates.io")
    assert refusal.value.hint == "remove it first: hive-c0re net ada remove *.crates.io"


async def test_so_many_rules(hive: NetworkHive) -> None:
    """There may be so many rules of an agent; to replace one is possible then, and so are rules of others."""
    for number in range(MAX_RULES):
        await hive.make("allow", f"host{number}.example")
    assert await code(hive.make("allow", "one.more.example")) == "too_many_rules"
    await hive.make("allow", "host3.example", hours=1)
    await hive.make("deny", "one.more.example")
    await hive.make("allow", "one.more.example", agent="bob")
    assert len(hive.allowed()) == MAX_RULES
    assert await code(hive.make("allow", "x" * 60 + ".example", agent="nobody")) == "unknown_agent"


async def test_largest_policy_fits_into_a_packet(hive: NetworkHive) -> None:
    """Lists as long as they may be make a policy that the proxy can be sent."""
    long = [f"{'h' * 55}{number:03}.example.org" for number in range(95)]
    hive.settings = Egress(allow=long, deny=long)
    await hive.restart()
    await hive.add("ada", allowed_hosts=[f"a{host}" for host in long[:90]])
    for agent in ("ada", EVERYONE):
        for number in range(MAX_RULES):
            await hive.make("allow", f"{'r' * 60}{number:03}.{agent.replace('*', 'all')}.example.org", agent=agent)
    policy = hive.network.policy("ada")
    assert len(policy.allow) == 95 + 90 + 2 * MAX_RULES
    assert len(policy.model_dump_json()) < 60 * 1024


async def test_agent_that_is_destroyed_meanwhile(hive: NetworkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that is stored while its agent is being destroyed is not that of a new agent of the name."""
    write = hive.database.write

    async def write_and_destroy(operation: Callable[[sqlite3.Connection], Any]) -> Any:
        monkeypatch.undo()
        stored = await write(operation)
        await hive.remove("ada")
        return stored

    monkeypatch.setattr(hive.database, "write", write_and_destroy)
    await hive.make("open", hours=1)
    await hive.add("ada")
    assert not hive.network.policy("ada").open and not (await hive.network.agent("ada")).rules


async def test_agent_that_is_destroyed(hive: NetworkHive) -> None:
    """A new agent of the name gets nothing of what the earlier one was allowed, asked for or was refused."""
    await hive.make("open", hours=1)
    await hive.make("allow", "npm")
    await hive.ask()
    await hive.refuse()
    await hive.carry(sent=7)
    await hive.network.store_reports()
    hive.changed.clear()
    await hive.remove("ada")
    assert hive.changed == []  # It has no policy any more.
    await hive.add("ada")
    for _ in range(2):
        network = await hive.network.agent("ada")
        assert (network.rules, network.requests, network.refused, network.open) == ([], [], [], False)
        assert network.traffic.sent_today == 0
        await hive.restart()


async def test_configuration_that_is_deployed(hive: NetworkHive) -> None:
    """The proxy is told, and the policy holds what the new configuration names."""
    await hive.add("ada", allowed_hosts=["npm"])
    hive.network.configuration_changed("ada")
    assert hive.changed == ["ada"]
    assert hive.allowed() == ["npm"]


async def test_log_is_followed(hive: NetworkHive) -> None:
    """A reader of the log gets what comes after its cursor, once, and of its own agent only."""
    await hive.make("allow", "npm", note="to\nbuild")
    first = await hive.network.read_log("ada", LogsQuery())
    assert first.lines[0].endswith(' allowed npm by operator:root: "to"')
    waiting = asyncio.create_task(hive.network.read_log("ada", LogsQuery(cursor=first.cursor, wait_seconds=30)))
    await asyncio.sleep(0)
    await hive.refuse(agent="bob")
    assert not waiting.done()
    await hive.refuse(host="a\nb")
    later = await waiting
    [line] = later.lines
    assert ' refused "a": no rule allows it; the rule "a" would allow it' in line
    again = await hive.network.read_log("ada", LogsQuery(cursor=later.cursor))
    assert (again.lines, again.cursor) == ([], later.cursor)
    waiting = asyncio.create_task(hive.network.read_log("ada", LogsQuery(cursor=later.cursor, wait_seconds=30)))
    await asyncio.sleep(0)
    hive.network.close()
    assert (await waiting).lines == []


async def test_ended_rules_are_removed(hive: NetworkHive) -> None:
    """Rules that ended, and requests that were decided, longer ago are removed; those in force are kept."""
    await hive.make("allow", "npm")
    await hive.make("allow", "pypi", hours=1)
    await hive.deny((await hive.ask("github")).id)
    hive.now += 3 * HOUR
    await hive.network.end_due()
    assert await hive.network.vacuum(1.0) == 0
    hive.now += 48 * HOUR
    assert await hive.network.vacuum(1.0) == 2
    await hive.restart()
    assert hive.allowed() == ["npm"]


async def test_events(hive: NetworkHive) -> None:
    """Readers of events see rules, requests and refusals as they happen."""
    with hive.events.reader(None) as events:
        await hive.make("allow", "npm", hours=1)
        hive.now += HOUR
        await hive.network.end_due()
        await hive.deny((await hive.ask("npm")).id)
        await hive.refuse("one.example", count=2)
        seen = [event async for event in _first(events, 5, "network.changed")]
    assert [(each.data["what"], each.data["host"], each.data["by"], each.data["count"]) for each in seen] == [
        ("allow", "npm", "operator:root", 0),
        ("ended", "npm", "", 0),
        ("asked", "npm", "ada", 0),
        ("denied", "npm", "operator:root", 0),
        ("refused", "one.example", "", 2),
    ]


async def _first(events: AsyncIterator[Event | None], count: int, kind: str) -> AsyncIterator[Event]:
    """The first events of a kind."""
    async for event in events:
        if event is not None and event.kind == kind:
            yield event
            count -= 1
            if not count:
                return


async def test_start_with_a_full_disk(hive: NetworkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose disk is full starts all the same, and what has ended is not in force; it is stored later."""
    await hive.make("open", hours=1)
    hive.now += HOUR
    with monkeypatch.context() as patched:
        patched.setattr("hive_core.outside.network.store.end_rules", _full_disk)
        await hive.restart()
        assert not hive.network.policy("ada").open
        assert await hive.network.end_due() == 5.0
    assert await hive.network.end_due() == 60.0
    assert [row.ended_by for row in await hive.database.read(_all_rules)] == ["time"]


def _full_disk(*_: object) -> None:
    raise HiveError("disk_full", "the disk is full", status=507)


def _all_rules(db: sqlite3.Connection) -> list[RuleRow]:
    return [row for _, row in changed_rules(db, ["ada"], 0, 10)]
