"""The addresses and on-link networks of this host, read from the kernel and followed as they change (rtnetlink(7)).

Read are two kinds of messages only, so this is a small reader and no library: the whole table at the start and after
each change, and at once what a change adds. Networks behind a gateway are not this host's, and neither is a route to
most of the world through a device, as tunnels have it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network

import structlog

from hive_core.services.egress.checks.addresses import Network

log = structlog.get_logger(__name__)

_NEW_ADDRESS, _GET_ADDRESS, _NEW_ROUTE, _GET_ROUTE = 20, 22, 24, 26
_ERROR, _DONE, _OVERRUN = 2, 3, 4
_REQUEST_DUMP = 0x1 | 0x300
_GROUPS = 0x10 | 0x100 | 0x40 | 0x400
"""Changes of addresses and routes, of IPv4 and IPv6."""
_ADDRESS, _LOCAL = 1, 2
_DESTINATION, _DEVICE, _GATEWAY, _MULTIPATH, _VIA = 1, 4, 5, 9, 18
_UNICAST, _OWN = 1, frozenset({2, 3, 4, 5})
"""Types of routes: to other machines; to this one, as broadcast, anycast and multicast."""
_SHORTEST: dict[int, int] = {socket.AF_INET: 8, socket.AF_INET6: 16}
"""On-link routes to larger networks are those of tunnels to the world."""
_SETTLE_SECONDS = 1.0
_ROOM = 64 * 1024


class HostNetworks:
    """The networks of this host; `changed` is called with all of them at the start and when they change."""

    def __init__(self, changed: Callable[[set[Network]], None]) -> None:
        self._changed = changed
        self._networks: set[Network] = set()
        self._socket: socket.socket | None = None
        self._renewal: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Read the networks and follow their changes. Raises OSError if the kernel does not tell them."""
        self._socket = _open(_GROUPS)
        self._renew()
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """End the following of changes."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._renewal is not None:
            self._renewal.cancel()

    def _renew(self) -> None:
        self._renewal = None
        found = read_networks()
        if found != self._networks:
            self._networks = found
            self._changed(found)

    def _read(self) -> None:
        """Take what was added into account at once, and read the whole table anew when changes have settled."""
        assert self._socket is not None
        try:
            added = set(_networks_in(self._socket.recv(_ROOM)))
        except BlockingIOError:
            return
        except OSError:  # Messages were lost: ENOBUFS.
            added = set()
        if not added <= self._networks:
            self._networks |= added
            self._changed(self._networks)
        if self._renewal is None:
            self._renewal = asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._renew_or_log)

    def _renew_or_log(self) -> None:
        try:
            self._renew()
        except OSError as error:  # What is known stays refused.
            log.warning("networks of the host not read", error=str(error))
            self._renewal = asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._renew_or_log)


def read_networks() -> set[Network]:
    """Return the addresses and on-link networks of this host. Raises OSError."""
    found: set[Network] = set()
    with _open(0) as connection:
        connection.setblocking(True)
        connection.settimeout(5)
        for kind in (_GET_ADDRESS, _GET_ROUTE):
            size, padding = (8, b"\0" * 8) if kind == _GET_ADDRESS else (12, b"\0" * 12)
            connection.send(struct.pack("=IHHII", 16 + size, kind, _REQUEST_DUMP, 1, 0) + padding)
            while not _is_end(data := connection.recv(_ROOM)):
                found.update(_networks_in(data))
            found.update(_networks_in(data))
    return found


def _open(groups: int) -> socket.socket:
    connection = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    try:
        connection.bind((0, groups))
    except BaseException:
        connection.close()
        raise
    return connection


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        yield kind, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _is_end(data: bytes) -> bool:
    """Return True if the dump ends with these messages. Raises OSError if the kernel refuses or breaks it off."""
    for kind, body in _messages(data):
        if kind in (_ERROR, _OVERRUN):
            number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
            raise OSError(number, f"the kernel did not tell its addresses: {os.strerror(number)}")
        if kind == _DONE:
            return True
    return False


def _networks_in(data: bytes) -> Iterator[Network]:
    for kind, body in _messages(data):
        if kind == _NEW_ADDRESS and len(body) >= 8:
            yield from _of_address(body)
        elif kind == _NEW_ROUTE and len(body) >= 12:
            yield from _of_route(body)


def _of_address(body: bytes) -> Iterator[Network]:
    """Yield the address, and the network that it says is on the link (struct ifaddrmsg)."""
    family, length = body[0], body[1]
    fields = dict(_fields(body[8:]))
    for kind in (_LOCAL, _ADDRESS):
        if kind in fields:
            yield from _network(family, fields[kind], len(fields[kind]) * 8)
    # On a point-to-point link this is the other end.
    if _ADDRESS in fields and length:
        yield from _network(family, fields[_ADDRESS], length)


def _of_route(body: bytes) -> Iterator[Network]:
    """Yield the destination of a route that leads to this host or to its links (struct rtmsg)."""
    family, length, kind = body[0], body[1], body[7]
    fields = dict(_fields(body[12:]))
    if kind not in _OWN and (kind != _UNICAST or not fields.keys().isdisjoint({_GATEWAY, _MULTIPATH, _VIA})):
        return
    if length < _SHORTEST.get(family, 0) or _DESTINATION not in fields or _DEVICE not in fields:
        return
    yield from _network(family, fields[_DESTINATION], length)


def _network(family: int, address: bytes, length: int) -> Iterator[Network]:
    if family == socket.AF_INET and len(address) == 4:
        yield IPv4Network((address, length), strict=False)
    elif family == socket.AF_INET6 and len(address) == 16:
        yield IPv6Network((address, length), strict=False)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3
