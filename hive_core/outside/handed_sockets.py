"""Listening sockets that sealed agents hand to the daemon, which gives them to its gateways.

A sealed agent has a network with nothing but a loopback of its own. Its harness listens there, for the programs that
want to reach the world, and sends the descriptors at a door (SCM_RIGHTS, unix(7)), a socket in the agent's run
directory that the daemon has made. A gateway then accepts connections on them from outside, and knows by the door which
agent they are from.

An agent may send anything here, and keeps a duplicate of what it sends. So a descriptor is checked before anybody uses
it, and closed where nothing waits for that (`hive_core.infra.concurrency.closing`).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ValidationError

from hive_core.infra.unix_sockets import bind
from hive_core.outside.handover_door import HandoverDoor, NotAcceptable

LOOPBACK = "127.0.0.1"
_SO_NETNS_COOKIE = 71
"""The number of a socket's network namespace, which is never used again (socket(7), Linux 5.14)."""


class Handover(BaseModel, extra="forbid"):
    """The packet that goes with a descriptor: the purpose of the listener, such as "proxy"."""

    purpose: str


class HandedSockets:
    """The doors of all agents; used on one event loop."""

    def __init__(
        self,
        door_of: Callable[[str], Path],
        port_of: Callable[[str, str], int | None],
        received: Callable[[str, str, socket.socket], None],
    ) -> None:
        """`door_of` returns the path of an agent's door.

        `port_of` returns the port on which a listener of an agent has to listen for a purpose, None if it has none; it
        is called on the thread of a door.
        `received` is called with an agent, a purpose and its checked listener, which it has to close.
        """
        self._door_of = door_of
        self._port_of = port_of
        self._received = received
        self._doors: dict[str, HandoverDoor] = {}

    def open(self, name: str) -> None:
        """Receive listeners at an agent's door, unless that is so already. Raises `cannot_listen`."""
        if name not in self._doors:
            server = bind(self._door_of(name), 0o600, None, socket.SOCK_SEQPACKET)
            self._doors[name] = HandoverDoor(name, server, partial(self._check, name), self._received)

    def release(self, name: str) -> None:
        """Close the door of an agent that is gone, or has the host's network."""
        door = self._doors.pop(name, None)
        if door is not None:
            door.close()
            self._door_of(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close every door."""
        for name in list(self._doors):
            self.release(name)

    def hang_up(self, name: str) -> None:
        """Have the harness of an agent hand its listeners over anew."""
        if name in self._doors:
            self._doors[name].hang_up()

    def _check(self, name: str, packet: bytes, descriptor: int) -> tuple[str, socket.socket]:
        """Return the purpose of a listener, and the listener; runs on a door's thread. Raises NotAcceptable."""
        try:
            purpose = Handover.model_validate_json(packet).purpose
        except ValidationError:
            raise NotAcceptable("a packet that is no handover") from None
        port = self._port_of(name, purpose)
        if port is None:
            raise NotAcceptable("a listener for nothing that the agent has")
        return purpose, checked_listener(descriptor, port)


def checked_listener(descriptor: int, port: int) -> socket.socket:
    """Return the listener on this port of a sealed agent's loopback that a descriptor is; takes the descriptor over.

    Raises NotAcceptable for anything else, and leaves the descriptor open then.
    """
    try:
        given = socket.socket(fileno=descriptor)
    except OSError as error:
        if error.errno == errno.ENOTSOCK:
            raise NotAcceptable("a descriptor that is no socket") from None
        raise NotAcceptable(f"a socket that cannot be examined: {os.strerror(error.errno or 0)}") from None
    try:
        _check(given, port)
    except BaseException:
        given.detach()
        raise
    return given


def _check(given: socket.socket, port: int) -> None:
    try:
        kind = (given.family, given.type, given.proto)
        listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        address = given.getsockname()
        with socket.socket() as own:
            is_hosts = _namespace(given) == _namespace(own)
    except OSError as error:
        raise NotAcceptable(f"a socket that cannot be examined: {os.strerror(error.errno or 0)}") from None
    # A connection to MPTCP or SCTP, say, would take other ways than those that are checked for TCP.
    if kind != (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP):
        raise NotAcceptable("a socket that is not TCP on IPv4")
    if not listens:
        raise NotAcceptable("a socket that does not listen")
    if address != (LOOPBACK, port):
        raise NotAcceptable(f"a socket that does not listen on port {port} of {LOOPBACK}")
    if is_hosts:
        raise NotAcceptable("a socket of the host's network")


def _namespace(given: socket.socket) -> int:
    (cookie,) = struct.unpack("=Q", given.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))
    return int(cookie)
