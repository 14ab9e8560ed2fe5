"""The table of addresses to which nothing is connected."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.services.egress.checks.addresses import AddressTable

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "100.100.100.200",
    "192.80.8.124",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::808:808",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002::1",
    "2002:7f00:1::1",
    "3fff::1",
    "3ffe::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12::1",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "8.8.8.8%lo",
    "1fff::",
    "nonsense",
    "1.2.3",
    "1.2.3.4.5",
    "0x7f.0.0.1",
    "::::",
    "08.8.8.8",
]
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "168.63.129.15",
    "168.63.129.17",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2a00::1",
    "2003::1",
    "2001:db9::1",
    "3fff:1000::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_refused(address: str) -> None:
    """No address of this machine, of its network, or of a special purpose is connected to."""
    assert AddressTable().why_refused(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_allowed(address: str) -> None:
    """Addresses of the public internet are connected to, up to the borders of the ranges."""
    assert AddressTable().why_refused(address) is None


@given(st.ip_addresses())
def test_nothing_but_global_addresses(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """What Python's own tables do not call global is refused, and so is multicast."""
    if AddressTable().why_refused(str(address)) is None:
        assert address.is_global and not address.is_multicast


@given(st.lists(st.tuples(st.ip_addresses(v=4), st.integers(1, 32)), max_size=8), st.ip_addresses(v=4), st.data())
def test_networks_of_the_host(
    parts: list[tuple[ipaddress.IPv4Address, int]], address: ipaddress.IPv4Address, data: st.DataObject
) -> None:
    """Every address in a network of the host is refused, and no others are because of it."""
    networks = [ipaddress.IPv4Network((str(each), length), strict=False) for each, length in parts]
    if data.draw(st.booleans()) and networks:
        network = data.draw(st.sampled_from(networks))
        address = ipaddress.IPv4Address(
            int(network.network_address) + data.draw(st.integers(0, network.num_addresses - 1))
        )
    table = AddressTable()
    before = table.why_refused(str(address))
    table.set_host_networks(networks)
    inside = any(address in network for network in networks)
    assert (table.why_refused(str(address)) is not None) == (inside or before is not None)
    table.set_host_networks([])
    assert table.why_refused(str(address)) == before
