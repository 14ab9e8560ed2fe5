"""The networks of this host, as the kernel tells them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from ipaddress import ip_address

import pytest

from hive_core.services.egress.checks.addresses import Network
from hive_core.services.egress.host_networks import HostNetworks, read_networks

_ROUTES = """
ip link set lo up
ip link add one type veth peer name two && ip link set two up && ip link set one up
ip addr add 45.7.0.9/24 dev one
ip addr add 2a05:7::9/48 dev one nodad
ip addr add 45.8.0.1 peer 45.8.9.1/32 dev one
ip route add 45.9.0.0/16 dev one
ip route add 45.10.0.0/16 via 45.7.0.1
ip route add local 45.11.0.0/16 dev lo
ip route add 0.0.0.0/1 dev one
ip route add default dev one
exec python3 -c 'import json; from hive_core.services.egress.host_networks import read_networks as read
print(json.dumps(sorted(map(str, read()))))'
"""


def test_the_networks_of_this_machine() -> None:
    """The loopback is among the networks, and so is the address from which this machine would send."""
    found = read_networks()
    assert {"127.0.0.0/8", "::1/128"} <= set(map(str, found)) or not socket.has_ipv6
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 53))  # Nothing is sent.
        except OSError:
            return
        assert any(ip_address(probe.getsockname()[0]) in network for network in found)


def test_kinds_of_addresses_and_routes() -> None:
    """Own addresses, their networks, other ends, on-link routes and local routes count; routes to elsewhere do not."""
    line = ["unshare", "-Urn", "sh", "-ec", _ROUTES.replace("python3", sys.executable)]
    made = subprocess.run(line, capture_output=True, text=True, check=False, timeout=30)
    if made.returncode:
        pytest.skip(f"no network can be made here: {made.stderr.strip()}")
    found = set(json.loads(made.stdout))
    assert {
        *("45.7.0.9/32", "45.7.0.0/24", "2a05:7::9/128", "2a05:7::/48", "45.8.0.1/32", "45.8.9.1/32"),
        *("45.9.0.0/16", "45.11.0.0/16", "127.0.0.0/8"),
    } <= found
    assert not {"45.10.0.0/16", "0.0.0.0/1", "0.0.0.0/0", "::/0"} & found


async def test_nothing_is_told_twice() -> None:
    """The networks are told at the start, and then only when they are others."""
    told: list[set[Network]] = []
    networks = HostNetworks(lambda found: told.append(set(found)))
    networks.start()
    await asyncio.sleep(0)
    networks.close()
    assert len(told) == 1 and told[0] == read_networks()
