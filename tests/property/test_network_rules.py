"""The rules of the network compared with a plain model, and hosts in all spellings."""

from __future__ import annotations

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from hive_core.protocol.network.hosts import NoHost, normal_host, split_port
from hive_core.protocol.network.policy import EgressPolicy
from hive_core.protocol.network.rules import (
    DEFAULT_PORTS,
    BadRule,
    Rule,
    RuleSet,
    missing_rule,
    normal_entry,
    parse_entry,
    parse_rule,
)
from hive_core.services.egress.checks.decision import Decider

_LABELS = ["a", "b", "xn--bcher-kva", "www", "x1"]
_TOPS = ["example.org", "example.co.uk", "a.example.org", "debian.org"]
_HOSTS = st.builds(
    lambda labels, top: ".".join([*labels, top]), st.lists(st.sampled_from(_LABELS), max_size=3), st.sampled_from(_TOPS)
)
_PORTS = st.sampled_from([22, 80, 443, 8443])
_WIDE = {ord(digit): 0xFF10 + int(digit) for digit in "0123456789"} | {ord("."): 0x3002}
"""Digits of full width, and the ideographic full stop, which IDNA takes for digits and a dot."""
_RULES = st.builds(Rule, _HOSTS, st.booleans(), st.none() | _PORTS)


def model(rules: list[Rule], host: str, port: int, *, denies: bool = False) -> bool:
    """Return what the documentation says, rule by rule."""
    for rule in rules:
        named = host.endswith("." + rule.host) if rule.below else host == rule.host
        if named and (port == rule.port if rule.port else denies or port in DEFAULT_PORTS):
            return True
    return False


@given(st.lists(_RULES, max_size=12), _HOSTS, _PORTS)
def test_a_set_of_rules_decides_as_its_rules_do(rules: list[Rule], host: str, port: int) -> None:
    """The arranged rules allow exactly what one of them covers, and name a rule that does."""
    found = RuleSet(rules).find(host, port)
    assert (found is not None) == model(rules, host, port)
    assert found is None or (found in rules and model([found], host, port))
    denied = RuleSet(rules, every_port=True).find(host, port)
    assert (denied is not None) == model(rules, host, port, denies=True)


@given(
    st.lists(_RULES, max_size=4),
    st.lists(st.tuples(_RULES, st.integers(0, 20)), max_size=4),
    st.lists(_RULES, max_size=2),
    st.lists(st.tuples(_RULES, st.integers(0, 20)), max_size=2),
    st.none() | st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 8), _HOSTS, _PORTS), max_size=6),
)
def test_timed_rules_hold_to_their_ends(
    allowed: list[Rule],
    allowed_until: list[tuple[Rule, int]],
    denied: list[Rule],
    denied_until: list[tuple[Rule, int]],
    open_until: int | None,
    asked: list[tuple[int, str, int]],
) -> None:
    """Whenever the proxy is asked, it decides by just the rules that have not ended, without hearing of ends."""
    policy = EgressPolicy(
        allow=[str(rule) for rule in [*allowed, *(rule for rule, _ in allowed_until)]],
        allow_ends=[end for _, end in allowed_until],
        deny=[str(rule) for rule in [*denied, *(rule for rule, _ in denied_until)]],
        deny_ends=[end for _, end in denied_until],
        open=open_until is not None,
        open_end=open_until,
    )
    now = [0]
    decider = Decider(policy, lambda: now[0])
    for later, host, port in asked:
        now[0] += later
        allows = [*allowed, *(rule for rule, end in allowed_until if now[0] < end)]
        denies = [*denied, *(rule for rule, end in denied_until if now[0] < end)]
        is_open = open_until is not None and now[0] < open_until
        reaches = (is_open or model(allows, host, port)) and not model(denies, host, port, denies=True)
        assert (decider.refuse(host, port) is None) == reaches


@given(_RULES)
def test_rules_are_read_as_they_are_written(rule: Rule) -> None:
    """The text of a rule is read as that rule, and so are its other spellings."""
    assert parse_rule(str(rule)) == rule
    host, colon, port = str(rule).partition(":")
    assert parse_rule(f"{host.upper()}.{colon}{port}") == rule
    assert normal_entry(str(rule)) == str(rule)


@given(_HOSTS, _PORTS)
def test_the_missing_rule_helps(host: str, port: int) -> None:
    """The rule that a refusal names lets the same host and port through, and no other host."""
    rule = parse_rule(missing_rule(host, port))
    assert RuleSet([rule]).find(host, port) == rule
    assert RuleSet([rule]).find(f"x.{host}", port) is None


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9.:*\[\]%xA-F-]{1,40}", fullmatch=True))
@example("\u2488com")
@example("a\u3002b")
def test_any_text_is_a_rule_in_its_normal_form_or_refused(text: str) -> None:
    """A text is read as rules that read as themselves, or refused with a printable reason."""
    try:
        rules = parse_entry(text)
    except BadRule as why:
        assert str(why).isascii() and str(why).isprintable()
        return
    for rule in rules:
        assert parse_rule(str(rule)) == rule
        assert "." in rule.host and rule.host == rule.host.lower() and rule.host.isascii()


@given(st.ip_addresses().map(str), st.sampled_from(["", ".", ":80", ".:443"]))
def test_addresses_are_no_names(address: str, end: str) -> None:
    """An address in its usual notation is no name, with a dot or a port behind it neither."""
    try:
        host, _ = split_port(address + end)
        name = normal_host(host)
    except NoHost:
        return
    raise AssertionError(name)


@given(st.integers(0, 2**32 - 1))
def test_other_notations_of_addresses_are_no_names(number: int) -> None:
    """An IPv4 address in decimal, octal or hexadecimal, whole or in parts, is no name."""
    address = ipaddress.IPv4Address(number)
    parts = [int(part) for part in str(address).split(".")]
    spellings = [
        *(str(number), hex(number), f"0{number:o}", f"{parts[0]}.{number % 2**24}"),
        *(".".join(hex(part) for part in parts), ".".join(f"0{part:o}" for part in parts)),
        *(str(address).translate(_WIDE), f"[::ffff:{address}]"),
    ]
    for spelling in spellings:
        try:
            name = normal_host(spelling)
        except NoHost:
            continue
        raise AssertionError((spelling, name))
