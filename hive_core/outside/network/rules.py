"""Rules in force: the policy of an agent, made of the settings, its configuration, and rules made while it runs.

Pure functions, without a clock and without the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hive_core.errors import HiveError
from hive_core.outside.network.store import RuleRow
from hive_core.protocol import AgentConfig
from hive_core.protocol.names import EVERYONE
from hive_core.protocol.network.entries import is_usable, read_host
from hive_core.protocol.network.policy import EgressLimits, EgressPolicy
from hive_core.protocol.network.rules import (
    DEFAULT_PORTS,
    BadRule,
    Rule,
    RuleSet,
    compile_denied,
    compile_entries,
    parse_entry,
)
from hive_core.protocol.network.services import EgressService, service_ports
from hive_core.protocol.network.settings import Egress

MAX_RULES = 50
"""Rules made for one agent, or for all, of one effect."""
MAX_RULE_CHARACTERS = 4_000
"""Characters of their hosts, so that the policy of an agent fits into one packet to the proxy."""
_HINT = "write a host as crates.io, *.crates.io or github.com:22, or name a set"
_ANY_NAME = "any-name"
"""Stands for every name that `*.host` covers."""


def read_entry(text: str) -> str:
    """Return an entry in its normal spelling. Raises HiveError `bad_rule`."""
    try:
        return read_host(text)
    except BadRule as why:
        raise HiveError("bad_rule", str(why), hint=_HINT) from None


def is_in_force(rule: RuleRow, now: int) -> bool:
    """Return True until the end of a rule. A time before it was made, of a clock that was set back, counts, too."""
    return rule.ended_at is None and (rule.ends_at is None or now < rule.ends_at)


def make_policy(
    settings: Egress,
    config: AgentConfig,
    rules: Iterable[RuleRow],
    since_boot: Callable[[int], int],
    offered: Mapping[str, str] | None = None,
) -> EgressPolicy:
    """Return what an agent with this configuration may reach; `rules` are those in force for it.

    `since_boot` converts the end of a rule to the clock of policies. `offered` are the addresses of the services that
    the operator offers, by name.

    An entry that is none any more, after an update, allows nothing. If it denies, nothing is reached until it is
    removed: what it kept away must not be reached instead.
    """
    made = list(rules)
    allow = _Entries(filter(is_usable, [*settings.allow, *config.allowed_hosts]))
    deny = _Entries(settings.deny)
    opened = _Entries()
    for rule in made:
        entries = {"allow": allow, "deny": deny, "open": opened}[rule.effect]
        if rule.effect != "allow" or is_usable(rule.entry):
            entries.add(rule.entry, None if rule.ends_at is None else since_boot(rule.ends_at))
    limits = EgressLimits.model_validate(settings.limits.model_dump())
    services = {
        name: EgressService(port=port, address=(offered or {}).get(name))
        for name, port in service_ports(config.services).items()
    }
    if not all(map(is_usable, deny.texts)):
        return EgressPolicy(limits=limits, services=services)
    return EgressPolicy(
        allow=allow.texts,
        allow_ends=allow.ends,
        deny=deny.texts,
        deny_ends=deny.ends,
        open=bool(opened.texts),
        open_end=opened.ends[0] if opened.ends else None,
        encrypted_hello=settings.encrypted_hello,
        limits=limits,
        services=services,
    )


class _Entries:
    """Entries of one effect without repeats: those that last, and then those that end. The longest of each counts."""

    def __init__(self, lasting: Iterable[str] = ()) -> None:
        self._lasting = dict.fromkeys(lasting)
        self._timed: dict[str, int] = {}

    def add(self, text: str, end: int | None) -> None:
        if end is None:
            self._lasting[text] = None
            self._timed.pop(text, None)
        elif text not in self._lasting:
            self._timed[text] = max(end, self._timed.get(text, 0))

    @property
    def texts(self) -> list[str]:
        return [*self._lasting, *self._timed]

    @property
    def ends(self) -> list[int]:
        return list(self._timed.values())


def lasting_hosts(settings: Egress, config: AgentConfig, rules: Iterable[RuleRow]) -> list[str]:
    """Return the entries by which an agent reaches hosts until somebody changes that: those without an end."""
    made = list(rules)
    denied = [*settings.deny, *_hosts(made, "deny")]
    if not all(map(is_usable, denied)):
        return []
    lasting = _hosts([rule for rule in made if rule.ends_at is None], "allow")
    allowed = dict.fromkeys([*settings.allow, *config.allowed_hosts, *lasting])
    return [entry for entry in allowed if is_usable(entry) and not is_denied(entry, denied)]


def applies_to(rule: RuleRow, agent: str) -> bool:
    """Return True if a rule is the agent's, or one for all."""
    return rule.agent in (agent, EVERYONE)


def is_covered(entry: str, entries: Iterable[str]) -> bool:
    """Return True if allowed `entries`, as far as they are usable, cover every host and port of `entry`.

    Raises BadRule.
    """
    return _covers(compile_entries(filter(is_usable, entries)), entry)


def is_denied(entry: str, entries: Iterable[str]) -> bool:
    """Return True if denied `entries`, as far as they are usable, cover all that `entry` does. Raises BadRule."""
    return _covers(compile_denied(filter(is_usable, entries)), entry)


def _covers(covering: RuleSet, entry: str) -> bool:
    return all(
        covering.find(f"{_ANY_NAME}.{rule.host}" if rule.below else rule.host, port) is not None
        for rule in parse_entry(entry)
        for port in _ports(rule)
    )


def has_room(rules: Iterable[RuleRow], entry: str) -> bool:
    """Return True if a rule for `entry` can be made beside `rules`, which are those of the same agent and effect."""
    entries = [rule.entry for rule in rules]
    return len(entries) < MAX_RULES and sum(map(len, entries)) + len(entry) <= MAX_RULE_CHARACTERS


def _ports(rule: Rule) -> Iterable[int]:
    return DEFAULT_PORTS if rule.port is None else (rule.port,)


def _hosts(rules: Iterable[RuleRow], effect: str) -> list[str]:
    return [rule.entry for rule in rules if rule.effect == effect]
