"""Rules in force, as policies are made of them."""

from __future__ import annotations

import pytest

from hive_core.outside.network.rules import is_covered, is_denied, lasting_hosts, make_policy
from hive_core.outside.network.store import RuleRow
from hive_core.protocol import AgentConfig
from hive_core.protocol.network.access import RuleEffect
from hive_core.protocol.network.settings import Egress


def made(effect: RuleEffect, entry: str, end: int | None = None) -> RuleRow:
    """A rule with or without an end."""
    return RuleRow(1, "ada", effect, entry, None, "operator:root", "", 0, end)


def same(end: int) -> int:
    """The clock of policies, which here is that of rules."""
    return end


@pytest.mark.parametrize(
    ("entry", "entries", "covered"),
    [
        ("a.example", ["a.example"], True),
        ("a.example", ["a.example:443"], False),
        ("a.example:443", ["a.example"], True),
        ("a.example:22", ["a.example"], False),
        ("x.a.example", ["*.a.example"], True),
        ("a.example", ["*.a.example"], False),
        ("*.a.example", ["a.example", "x.a.example"], False),
        ("*.x.a.example", ["*.a.example"], True),
        ("*.a.example", ["*.x.a.example"], False),
        ("github", ["github"], True),
        ("github", ["github.com"], False),
        ("github.com:22", ["github"], True),
    ],
)
def test_is_covered(entry: str, entries: list[str], covered: bool) -> None:
    """An entry is covered if every host and port of it is."""
    assert is_covered(entry, entries) is covered


@pytest.mark.parametrize(
    ("entry", "entries", "denied"),
    [
        ("github.com:22", ["github.com"], True),
        ("x.a.example:22", ["*.a.example"], True),
        ("a.example", ["a.example:443"], False),
        ("a.example:22", ["a.example:443"], False),
        ("github", ["github.com"], False),
    ],
)
def test_a_denial_without_a_port_is_of_every_port(entry: str, entries: list[str], denied: bool) -> None:
    """Who denies a host denies ssh to it as well; who denies a port, just that."""
    assert is_denied(entry, entries) is denied


def test_entry_that_is_none_any_more_allows_nothing() -> None:
    """After an update that knows another set, or public suffix, the other rules hold on."""
    config = AgentConfig(allowed_hosts=["set-of-before", "b.example"])
    policy = make_policy(Egress(allow=["a.example"]), config, [made("allow", "*.com"), made("open", "")], same)
    assert (policy.allow, policy.open) == (["a.example", "b.example"], True)


def test_denial_that_is_none_any_more_closes_everything() -> None:
    """An agent must not reach what was kept away from it, and nobody knows any more what that was."""
    rules = [made("deny", "set-of-before"), made("open", "")]
    policy = make_policy(Egress(allow=["a.example"]), AgentConfig(), rules, same)
    assert (policy.allow, policy.deny, policy.open) == ([], [], False)


def test_ends_are_told_with_the_rules() -> None:
    """Rules with an end come last, each with it; of several for the same host, the one that lasts longest counts."""
    rules = [
        made("allow", "a.example", 5),
        made("allow", "b.example", 5),
        made("allow", "c.example", 7),
        made("allow", "b.example", 9),
        made("allow", "d.example"),
        made("allow", "e.example", 4),
        made("allow", "e.example"),
        made("deny", "x.example", 3),
        made("open", "", 6),
        made("open", "", 8),
    ]
    policy = make_policy(Egress(allow=["a.example"]), AgentConfig(), rules, lambda end: end + 100)
    assert policy.allow == ["a.example", "d.example", "e.example", "b.example", "c.example"]
    assert (policy.allow_ends, policy.deny_ends) == ([109, 107], [103])
    assert (policy.deny, policy.open, policy.open_end) == (["x.example"], True, 108)


def test_agents_are_told_of_what_lasts() -> None:
    """An agent is told of hosts without an end, from all places, and of none that is denied; no end, no surprise."""
    settings, config = Egress(allow=["npm", "b.example"], deny=["b.example"]), AgentConfig(allowed_hosts=["a.example"])
    rules = [made("allow", "c.example"), made("allow", "d.example", 60_000), made("deny", "a.example")]
    assert lasting_hosts(settings, config, rules) == ["npm", "c.example"]
    assert lasting_hosts(settings, config, [made("deny", "*.com")]) == []  # A denial that is none any more.
