"""The table of addresses to which nothing is connected: everything that is not plainly the public internet.

IPv6 has one public range, `2000::/3`. All else is refused, and so are mapped, translated (NAT64) and unique local
addresses; the exceptions within that range are listed. To this come the addresses and networks of the host itself.
The registries are those of IANA: `iana-ipv4-special-registry` and `iana-ipv6-special-registry`.
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from hive_core.services.egress.checks.metadata_services import METADATA_ADDRESSES

Network = IPv4Network | IPv6Network

_SPECIAL = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by a provider's customers",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "for protocols",
    "192.0.2.0/24": "for documentation",
    "192.52.193.0/24": "multicast",
    "192.88.99.0/24": "6to4",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved or broadcast",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::/96": "an IPv4 address within an IPv6 one",
    "::ffff:0:0/96": "an IPv4 address within an IPv6 one",
    "::ffff:0:0:0/96": "an IPv4 address within an IPv6 one",
    "64:ff9b::/96": "NAT64",
    "64:ff9b:1::/48": "NAT64",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "private",
    "ff00::/8": "multicast",
    "2001::/32": "Teredo",
    "2001::/23": "for protocols",
    "2001:db8::/32": "for documentation",
    "2002::/16": "6to4",
    "3ffe::/16": "reserved",
    "3fff::/20": "for documentation",
}
_PUBLIC_6 = range(0x2 << 124, 0x4 << 124)

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class AddressTable:
    """Answers why an address is refused. The networks of the host can be replaced at any time."""

    def __init__(self) -> None:
        special = [(ip_network(text), why) for text, why in _SPECIAL.items()]
        special += [(ip_network(text), "a metadata service") for text in METADATA_ADDRESSES]
        self._special = _Ranges(special)
        self._host = _Ranges([])

    def set_host_networks(self, networks: Iterable[Network]) -> None:
        """Refuse the addresses of these networks, too, and no longer those of earlier ones."""
        self._host = _Ranges([(network, "in a network of this host") for network in networks])

    def why_refused(self, address: str) -> str | None:
        """Return why nothing is connected to an address, in the notation of a socket; None if it is allowed."""
        version = 6 if ":" in address else 4
        try:
            packed = socket.inet_pton(_FAMILIES[version], address)
        except OSError:  # With a scope, for example: link-local.
            return "not a public address"
        number = int.from_bytes(packed, "big")
        why = self._special.find(version, number) or self._host.find(version, number)
        if why is None and version == 6 and number not in _PUBLIC_6:
            return "not a public address"
        return why


class _Ranges:
    """Networks with a reason each. Where several cover an address, one of the smallest gives the reason."""

    def __init__(self, networks: Iterable[tuple[Network, str]]) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._reasons: dict[int, list[str | None]] = {4: [], 6: []}
        ordered = sorted(networks, key=lambda each: each[0].prefixlen)
        for version in (4, 6):
            whole: list[tuple[int, str | None]] = [(0, None)]
            for network, why in ordered:
                if network.version == version:
                    whole = _cut(whole, int(network.network_address), int(network.broadcast_address), why)
            self._starts[version] = [start for start, _ in whole]
            self._reasons[version] = [why for _, why in whole]

    def find(self, version: int, number: int) -> str | None:
        return self._reasons[version][bisect_right(self._starts[version], number) - 1]


def _cut(whole: list[tuple[int, str | None]], first: int, last: int, why: str) -> list[tuple[int, str | None]]:
    """Return the ranges, given as their starts in order, with another reason from `first` to `last`.

    Networks either contain each other or have nothing in common, and larger ones come first: a range is never cut by
    one that overlaps it in part.
    """
    before = [each for each in whole if each[0] < first]
    resumed = [each for each in whole if each[0] <= last + 1][-1][1]
    after = [each for each in whole if each[0] > last + 1]
    return [*before, (first, why), (last + 1, resumed), *after]
