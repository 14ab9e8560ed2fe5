"""The tries of a sealed agent, and the meaning of their outcomes. Without I/O.

An outcome is the agent's word. What the listeners of this host have seen is not, and counts whatever the agent says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hive_core.protocol.access.probe import Tried, Try
from hive_core.protocol.network.named_sets import NAMED_SETS

NIX_SOCKET = "/nix/var/nix/daemon-socket/socket"
_METADATA = ("169.254.169.254", "fd00:ec2::254")
_PUBLIC = ("1.1.1.1", "2606:4700:4700::1111")
_PRIVATE = "10.0.0.1"
_NOBODY = 9
"""A port on which hardly anybody listens; a refusal comes from the address all the same."""
_MOST_RESOLVERS = 3

CheckName = Literal[
    "loopback",
    "abstract-socket",
    "metadata",
    "private-address",
    "public-tcp",
    "public-udp",
    "dns",
    "nix-socket",
    "allowed-host",
]
LABELS: Mapping[CheckName, str] = {
    "loopback": "the host's loopback",
    "abstract-socket": "abstract sockets of the host",
    "metadata": "the metadata address",
    "private-address": "private addresses",
    "public-tcp": "public addresses (TCP)",
    "public-udp": "public addresses (UDP)",
    "dns": "the host's name servers",
    "nix-socket": "the Nix socket",
    "allowed-host": "an allowed host",
}


@dataclass(frozen=True)
class Planned:
    """One try, and the check that it belongs to. `listener` is the name of the doctor's listener that it leads to."""

    check: CheckName
    to: Try
    listener: str = ""

    @property
    def target(self) -> str:
        """The target in words."""
        if self.to.kind == "unix":
            return self.to.address
        host = f"[{self.to.address}]" if ":" in self.to.address else self.to.address
        return f"{host}:{self.to.port}"


@dataclass(frozen=True)
class Judged:
    """One check of an agent: the reached target, or one that was not. `held` is None where nothing had to hold."""

    check: CheckName
    target: str
    reached: bool
    held: bool | None
    detail: str
    seen: bool = False

    def as_json(self) -> dict[str, object]:
        """Return the check as JSON data."""
        return {
            "check": self.check,
            "target": self.target,
            "reached": self.reached,
            "held": self.held,
            "detail": self.detail,
            "seen": self.seen,
        }


def plan(
    loopback: Mapping[str, tuple[str, int]],
    abstract: str,
    resolvers: Sequence[str],
    own_address: str,
    allowed: tuple[str, int] | None,
) -> list[Planned]:
    """Return all tries. `loopback` and `abstract` are the doctor's listeners, `own_address` is one of this host's."""
    found = [Planned("loopback", Try("tcp", *address), name) for name, address in loopback.items()]
    found.append(Planned("abstract-socket", Try("unix", f"@{abstract}"), f"@{abstract}"))
    found += [Planned("metadata", Try("tcp", address, 80)) for address in _METADATA]
    found += [Planned("private-address", Try("tcp", address, _NOBODY)) for address in {own_address or _PRIVATE}]
    for address in _PUBLIC:
        found.append(Planned("public-tcp", Try("tcp", address, 443)))
        found.append(Planned("public-udp", Try("udp", address, 53)))
    found += [Planned("dns", Try("udp", address, 53)) for address in resolvers[:_MOST_RESOLVERS]]
    found.append(Planned("nix-socket", Try("unix", NIX_SOCKET)))
    if allowed is not None:
        found.append(Planned("allowed-host", Try("proxy", *allowed)))
    return found


def judge(
    planned: Planned, tried: Tried, *, seen: Collection[str], answer: str, sealed: bool, nix_daemon: bool
) -> Judged:
    """Return what one outcome means. `seen` are the listeners that the agent has reached, which say `answer`."""
    by_listener = planned.listener in seen if planned.listener else False
    if planned.listener:
        reached = by_listener or tried.answer == answer
    elif planned.check in ("nix-socket", "allowed-host") or _is_loopback(planned.to.address):
        reached = tried.outcome == "reached"  # A refusal may come from the agent's own loopback.
    else:
        reached = tried.outcome != "blocked"  # What was sent may have left, whoever answers.
    judged = sealed and planned.check != "allowed-host" and not (planned.check == "nix-socket" and nix_daemon)
    detail = " ".join(filter(None, (tried.detail, tried.answer if planned.check == "allowed-host" else "")))
    return Judged(planned.check, planned.target, reached, not reached if judged else None, detail, seen=by_listener)


def allowed_host(rules: Sequence[Mapping[str, Any]]) -> tuple[str, int] | None:
    """Return the first host, with its port, that the rules of an agent allow by its name; None if there is none."""
    return next(_allowed(rules), None)


def _allowed(rules: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    denied = {str(rule.get("host")) for rule in rules if rule.get("effect") == "deny"}
    for rule in rules:
        if rule.get("effect") != "allow":
            continue
        entry = str(rule.get("host") or "")
        for host in NAMED_SETS.get(entry, (entry,)):
            name, _, port = host.partition(":")
            if name and "*" not in name and not denied & {entry, host, name} and (not port or port.isdecimal()):
                yield name, int(port or 443)


def resolvers_in(text: str) -> list[str]:
    """Return the addresses of the name servers in a resolv.conf(5)."""
    words = [line.split() for line in text.splitlines()]
    found = [line[1].partition("%")[0] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [address for address in found if _is_address(address)]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    return _is_address(address) and ipaddress.ip_address(address).is_loopback
