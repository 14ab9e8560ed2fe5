"""Listening sockets that sealed agents hand to the daemon, which gives them to its gateways.

A sealed agent has a network with nothing but a loopback of its own. Its harness listens there, for the programs that
want to reach the world, and sends the descriptors at a door (SCM_RIGHTS, unix(7)), a socket in the agent's run
directory that the daemon has made. A gateway then accepts connections on them from outside, and knows by the door which
agent they are from.

An agent may send anything here, and keeps a duplicate of what it sends. So a descriptor is checked before anybody uses
it, and gateways accept connections as `hive_core.infra.foreign_listener` does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError

from hive_core.infra.packets import PacketConnection, PacketRefused
from hive_core.infra.unix_sockets import bind

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
_SO_NETNS_COOKIE = 71
"""The number of a socket's network namespace, which is never used again (socket(7), Linux 5.14)."""
_CONNECTIONS = 2
"""Open at one door: that of the harness, and that of the one before it, whose end is not seen yet."""
_PACKETS = 64
"""On one connection: each of an agent's listeners once."""


class NotAcceptable(Exception):
    """A descriptor that is not the listener that it should be; the text says why."""


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

        `port_of` returns the port on which a listener of an agent has to listen for a purpose, None if it has none.
        `received` is called with an agent, a purpose and its checked listener, which it has to close.
        """
        self._door_of = door_of
        self._port_of = port_of
        self._received = received
        self._doors: dict[str, _Door] = {}

    def open(self, name: str) -> None:
        """Receive listeners at an agent's door, unless that is so already. Raises `cannot_listen`."""
        if name not in self._doors:
            server = bind(self._door_of(name), 0o600, None, socket.SOCK_SEQPACKET)
            server.listen(_CONNECTIONS)
            self._doors[name] = _Door(self, name, server)

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

    def take(self, name: str, packet: bytes, descriptor: int | None) -> None:
        """Check what came at an agent's door, and pass it on. Raises NotAcceptable; the descriptor is used up."""
        if descriptor is None:
            raise NotAcceptable("a packet without a descriptor")
        try:
            purpose = Handover.model_validate_json(packet).purpose
            port = self._port_of(name, purpose)
            if port is None:
                raise NotAcceptable("a listener for nothing that the agent has")
            listener = checked_listener(descriptor, port)
        except ValidationError:
            os.close(descriptor)
            raise NotAcceptable("a packet that is no handover") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._received(name, purpose, listener)


class _Door:
    """One agent's door, and the connections at it."""

    def __init__(self, sockets: HandedSockets, name: str, server: socket.socket) -> None:
        self._sockets = sockets
        self._name = name
        self._server = server
        self._callers: list[tuple[PacketConnection, asyncio.Task[None]]] = []
        asyncio.get_running_loop().add_reader(server, self._accept)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._server)
        self._server.close()
        for connection, task in self._callers:
            task.cancel()
            connection.close()
        self._callers.clear()

    def _accept(self) -> None:
        try:
            caller, _ = self._server.accept()
        except OSError:  # The caller has hung up, or there is no descriptor left.
            return
        while len(self._callers) >= _CONNECTIONS:
            connection, task = self._callers.pop(0)
            task.cancel()
            connection.close()
        connection = PacketConnection(caller)
        self._callers.append((connection, asyncio.create_task(self._serve(connection))))

    async def _serve(self, connection: PacketConnection) -> None:
        """Receive listeners; the connection then stays open, so that its end tells the harness of the daemon's."""
        refused = False
        try:
            for _ in range(_PACKETS):
                try:
                    self._sockets.take(self._name, *await connection.receive())
                except (NotAcceptable, PacketRefused) as error:
                    if not refused:  # Once, so that an agent cannot fill the log.
                        log.warning("what an agent handed over is refused", agent=self._name, why=str(error))
                        refused = True
        except ConnectionError:
            pass
        self._callers = [each for each in self._callers if each[0] is not connection]
        connection.close()


def checked_listener(descriptor: int, port: int) -> socket.socket:
    """Return the listener on this port of a sealed agent's loopback that a descriptor is; takes the descriptor over.

    Raises NotAcceptable for anything else, and leaves the descriptor open then.
    """
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise NotAcceptable("a descriptor that is no socket")
    try:
        given = socket.socket(fileno=descriptor)
    except OSError as error:
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
