"""The lending of one listening socket at a door."""

from __future__ import annotations

import asyncio
import fcntl
import math
import socket
import struct
import termios
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.infra.unix_sockets import bind

log = structlog.get_logger(__name__)

MAX_PENDING = 8
"""Duplicates of one listener under way at a time; further requests are refused by closing them."""
BACKLOG = 128
"""Callers that wait while no harness runs: the kernel lets further ones try again. Callers of a door, too."""
_CHECK_SECONDS = 1.0
_ANEW_SECONDS = 10.0
"""Time between two listeners that an agent can cause at its door; a harness without one asks again as often."""
MAX_KEPT = 4
"""Connections of one agent that stay open at its door; one more ends the oldest."""


class LentSockets:
    """One kind of lent sockets, by agent; used on one event loop."""

    def __init__(self, door_of: Callable[[str], Path]) -> None:
        """`door_of` returns the path of an agent's door."""
        self._door_of = door_of
        self._lenders: dict[str, Lender] = {}

    def release(self, name: str) -> None:
        """Close the socket of an agent that is gone, or that must not have it any more."""
        lender = self._lenders.pop(name, None)
        if lender is not None:
            lender.close()

    def close(self) -> None:
        """Close every socket."""
        for name in list(self._lenders):
            self.release(name)


class Lender(ABC):
    """One listening socket, and the door on which it is lent."""

    def __init__(self, door: Path) -> None:
        self._door = door
        self._listener: socket.socket | None = None
        self._lend_socket: socket.socket | None = None
        self._loans: set[socket.socket] = set()
        self._kept: list[socket.socket] = []
        self._anew_at = -math.inf

    @abstractmethod
    def _is_lendable(self) -> bool:
        """Return True if there is a listener that `listen` need not make anew."""

    @abstractmethod
    def listen(self) -> socket.socket:
        """Return the listening socket; a new one if the agent has made its duplicate unusable. Raises HiveError."""

    def open(self) -> None:
        """Lend the socket to callers of the door, which is the agent's alone. Raises `cannot_listen`."""
        if self._lend_socket is None:
            server = bind(self._door, 0o600, None)
            server.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(server, self._accept, server)
            self._lend_socket = server

    def shut(self) -> None:
        """Close the door and all requests at it."""
        if self._lend_socket is not None:
            asyncio.get_running_loop().remove_reader(self._lend_socket)
            self._lend_socket.close()
            self._lend_socket = None
            self._door.unlink(missing_ok=True)
        for loan in self._loans:
            loan.close()
        self._loans.clear()
        for caller in list(self._kept):
            self._drop(caller)

    def close(self) -> None:
        """Close the door and the listening socket."""
        self.shut()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept(self, server: socket.socket) -> None:
        try:
            caller, _ = server.accept()
        except OSError:  # The caller has hung up, or there is no descriptor left.
            return
        if len(self._loans) >= MAX_PENDING:
            caller.close()
            return
        if not self._is_lendable():
            now = asyncio.get_running_loop().time()
            if now < self._anew_at + _ANEW_SECONDS:
                caller.close()
                return
            self._anew_at = now
        caller.setblocking(False)
        try:
            listener = self.listen()
            # Its buffer is empty: this does not block.
            socket.send_fds(caller, [b"\0"], [listener.fileno()])
        except (HiveError, OSError) as error:
            log.warning("socket not lent to its agent", door=str(self._door), error=str(error))
            caller.close()
            return
        self._loans.add(caller)
        self._check_later(caller)

    def _check_later(self, caller: socket.socket) -> None:
        asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check, caller)

    def _check(self, caller: socket.socket) -> None:
        """Settle the connection when the duplicate was received: one in flight counts against the daemon's limit."""
        if caller not in self._loans:
            return
        if _unread(caller):
            self._check_later(caller)
        else:
            self._loans.discard(caller)
            self._received(caller)

    def _received(self, caller: socket.socket) -> None:
        caller.close()

    def _keep(self, caller: socket.socket) -> None:
        """Keep the connection open until the listener is another one or the caller ends it."""
        if len(self._kept) >= MAX_KEPT:
            self._drop(self._kept[0])
        self._kept.append(caller)
        asyncio.get_running_loop().add_reader(caller, self._drop, caller)

    def _drop(self, caller: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(caller)
        self._kept.remove(caller)
        caller.close()


def _unread(caller: socket.socket) -> int:
    """Return the number of sent bytes that were neither read nor discarded by a close (SIOCOUTQ, unix(7))."""
    (found,) = struct.unpack("i", fcntl.ioctl(caller, termios.TIOCOUTQ, struct.pack("i", 0)))
    return int(found)
