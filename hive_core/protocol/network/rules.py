"""Rules of the hosts that agents may reach: `host[:port]`, `*.host[:port]`, and names of sets of such rules.

`crates.io` covers the ports 80 and 443 of that host, or all of its ports where it denies; `github.com:22` only port 22.
`*.debian.org` covers names below it, and not `debian.org` itself. What follows `*.` is no public suffix: `*.com`,
`*.co.uk` and `*.github.io` would cover names of everybody. Rules are compared in one spelling: lower case, A-labels, no
dot at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from hive_core.protocol.network.hosts import NoHost, normal_host, split_port
from hive_core.protocol.network.named_sets import NAMED_SETS
from hive_core.text import shown

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

DEFAULT_PORTS = frozenset({80, 443})
"""The ports that a rule without a port covers: HTTP, and TLS."""
SMTP_PORT = 25
"""The port of mail between servers, which no rule opens: a host that sends spam is blocked as a whole."""


class BadRule(ValueError):
    """The reason why a text is no rule; a sentence without its full stop."""


@dataclass(frozen=True)
class Rule:
    """One host, or all names below one, with one port or the default ports (None)."""

    host: str
    below: bool = False
    port: int | None = None

    def __str__(self) -> str:
        """Return the rule in its normal spelling."""
        host = f"*.{self.host}" if self.below else self.host
        return host if self.port is None else f"{host}:{self.port}"


class RuleSet:
    """Rules, arranged so that the time of a look-up does not grow with their number."""

    def __init__(self, rules: Iterable[Rule], *, every_port: bool = False) -> None:
        """With `every_port`, rules without a port cover all ports: those that deny."""
        self._every_port = every_port
        self._hosts: dict[str, list[Rule]] = {}
        self._parents: dict[str, list[Rule]] = {}
        for rule in rules:
            (self._parents if rule.below else self._hosts).setdefault(rule.host, []).append(rule)

    def find(self, host: str, port: int) -> Rule | None:
        """Return a rule that covers the port of a host in its normal spelling; None if there is none."""
        for rule in self._hosts.get(host, ()):
            if self._has_port(rule, port):
                return rule
        if self._parents:
            parent = host.partition(".")[2]
            while parent:
                for rule in self._parents.get(parent, ()):
                    if self._has_port(rule, port):
                        return rule
                parent = parent.partition(".")[2]
        return None

    def _has_port(self, rule: Rule, port: int) -> bool:
        if rule.port is None:
            return self._every_port or port in DEFAULT_PORTS
        return port == rule.port


def missing_rule(host: str, port: int) -> str:
    """Return the rule that would cover just this host and port."""
    return str(Rule(host, port=None if port in DEFAULT_PORTS else port))


def parse_rule(text: str) -> Rule:
    """Return the rule that `text` is; no name of a set. Raises BadRule."""
    below = text.startswith("*.")
    try:
        host, port = split_port(text.removeprefix("*."))
        host = normal_host(host)
    except NoHost as why:
        raise BadRule(f"the rule {shown(text)} {why}") from None
    if port == SMTP_PORT:
        raise BadRule(f"the rule {shown(text)} asks for port 25, over which no mail is sent from agents")
    if below and _suffixes().is_public(host):
        raise BadRule(f"the rule {shown(text)} covers names of everybody: {host} is a public suffix")
    return Rule(host, below, port)


def parse_entry(text: str) -> tuple[Rule, ...]:
    """Return the rules of an entry of an allow-list, which is a rule or the name of a set. Raises BadRule."""
    if "." in text or ":" in text:
        return (parse_rule(text),)
    if text not in NAMED_SETS:
        raise BadRule(f"{shown(text)} is no rule and no set; the sets are {', '.join(sorted(NAMED_SETS))}")
    return rules_of_set(text)


def normal_entry(text: str) -> str:
    """Return an entry of an allow-list in its normal spelling. Raises BadRule."""
    rules = parse_entry(text)
    return text if text in NAMED_SETS else str(rules[0])


@cache
def rules_of_set(name: str) -> tuple[Rule, ...]:
    """Return the rules of a set that is shipped."""
    return tuple(parse_rule(text) for text in NAMED_SETS[name])


def compile_entries(entries: Iterable[str]) -> RuleSet:
    """Return the rules of an allow-list. Raises BadRule."""
    return RuleSet(_expand(entries))


def compile_denied(entries: Iterable[str]) -> RuleSet:
    """Return the rules of a list of denied hosts: one without a port denies every port. Raises BadRule."""
    return RuleSet(_expand(entries), every_port=True)


def _expand(entries: Iterable[str]) -> Iterator[Rule]:
    for entry in entries:
        yield from parse_entry(entry)


@cache
def _suffixes() -> PublicSuffixList:
    """Return the list of public suffixes, with those of hosting services. A name that is not listed is one, too."""
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415 - read only where a rule has `*.`

    return PublicSuffixList(accept_unknown=True)
