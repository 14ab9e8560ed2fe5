"""Listening sockets that agents hand to the daemon, which gives them to its gateways.

A sealed agent has a network with nothing but a loopback of its own. Its harness listens there, for the programs that
want to reach the world, and sends the descriptors at a door (SCM_RIGHTS, unix(7)), a socket in the agent's run
directory that the daemon has made. A gateway then accepts connections on them from outside, and knows by the door which
agent they are from.

The harness of an agent with the host's network does so, too, for the relay. Others on this host can connect there, so
it sends a key along, which the gateway asks for.

An agent may send anything here, and keeps a duplicate of what it sends. So a descriptor is checked before anybody uses
it, and closed where nothing waits for that (`hive_core.infra.concurrency.closing`).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, StringConstraints, ValidationError

from hive_core.infra.unix_sockets import bind
from hive_core.outside.handover_door import HandedListener, HandoverDoor, NotAcceptable

LOOPBACK = "127.0.0.1"
_SO_NETNS_COOKIE = 71
"""The number of a socket's network namespace, which is never used again (socket(7), Linux 5.14)."""


class Handover(BaseModel, extra="forbid"):
    """The packet that goes with a descriptor: the purpose of the listener, such as "proxy", and its key."""

    purpose: str
    key: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_-]{32,128})?$")] = ""


@dataclass(frozen=True)
class ExpectedListener:
    """A listener that an agent has to hand over: on this port of its loopback, of which 0 is any.

    `of_host` is one of an agent with the host's network; it needs a key.
    """

    port: int
    of_host: bool = False


class HandedSockets:
    """The doors of all agents; used on one event loop."""

    def __init__(
        self,
        door_of: Callable[[str], Path],
        received: Callable[[str, HandedListener], None],
    ) -> None:
        """`door_of` returns the path of an agent's door.

        `received` is called with an agent and a checked listener, which it has to close.
        """
        self._door_of = door_of
        self._received = received
        self._expected: dict[str, Mapping[str, ExpectedListener]] = {}
        """Read on the threads of doors, and never changed but replaced."""
        self._doors: dict[str, HandoverDoor] = {}

    def open(self, name: str, expected: Mapping[str, ExpectedListener]) -> None:
        """Receive these listeners of an agent, by their purposes, at its door. Raises `cannot_listen`."""
        self._expected[name] = expected
        if name not in self._doors:
            server = bind(self._door_of(name), 0o600, None, socket.SOCK_SEQPACKET)
            self._doors[name] = HandoverDoor(name, server, partial(self._check, name), self._received)

    def release(self, name: str) -> None:
        """Close the door of an agent that is gone, or has nothing to hand over."""
        self._expected.pop(name, None)
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

    def _check(self, name: str, packet: bytes, descriptor: int) -> HandedListener:
        """Return the listener that came with a packet; runs on a door's thread. Raises NotAcceptable."""
        try:
            handover = Handover.model_validate_json(packet)
        except ValidationError:
            raise NotAcceptable("a packet that is no handover") from None
        expected = self._expected.get(name, {}).get(handover.purpose)
        if expected is None:
            raise NotAcceptable("a listener for nothing that the agent has")
        if expected.of_host != bool(handover.key):
            raise NotAcceptable("a listener without the key that it needs, or with one that it does not")
        return HandedListener(handover.purpose, checked_listener(descriptor, expected), handover.key)


def checked_listener(descriptor: int, expected: ExpectedListener) -> socket.socket:
    """Return the listener that a descriptor is; takes the descriptor over.

    Raises NotAcceptable if it is another than the expected one, and leaves the descriptor open then.
    """
    try:
        given = socket.socket(fileno=descriptor)
    except OSError as error:
        if error.errno == errno.ENOTSOCK:
            raise NotAcceptable("a descriptor that is no socket") from None
        raise NotAcceptable(f"a socket that cannot be examined: {os.strerror(error.errno or 0)}") from None
    try:
        _check(given, expected)
    except BaseException:
        given.detach()
        raise
    return given


def _check(given: socket.socket, expected: ExpectedListener) -> None:
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
    port = expected.port or address[1]
    if address != (LOOPBACK, port):
        raise NotAcceptable(f"a socket that does not listen on port {port} of {LOOPBACK}")
    if is_hosts and not expected.of_host:
        raise NotAcceptable("a socket of the host's network")
    if expected.of_host and not is_hosts:
        raise NotAcceptable("a socket of another network than the host's")


def _namespace(given: socket.socket) -> int:
    (cookie,) = struct.unpack("=Q", given.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))
    return int(cookie)
