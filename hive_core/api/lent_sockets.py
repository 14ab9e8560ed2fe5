"""Listening sockets that the daemon makes and lends to harnesses: each agent's view socket, and the port of its page.

A harness gets a duplicate of a listening socket on a unix socket in its run directory, its *door* (SCM_RIGHTS,
unix(7)); with that it accepts connections itself. So the daemon alone decides what a listener is called and where it
lies, and nobody who connects resolves a path that an agent can write.

The view socket is a unix socket in a directory that no agent sees. Its listener cannot be connected to anything else;
an agent can only shut its duplicate down, and then the daemon makes another one: at its start and at every `hold`, and
at the door at most once in 10 s, so that an agent cannot keep the daemon busy with it. The connection to its door stays
open while the duplicate is that of the daemon's listener, so its end tells a harness to request the next one.

The port is for agents with the host's network. Any program can bind a free port of the loopback, so the daemon holds an
agent's port from its spawn to its destruction, and no other program can pose as an agent that is down. An agent whose
network is sealed gets no port: a TCP listener can be shut down and then connected (tcp(7) knows no right that would
forbid it), and would lead it to every service on the host's loopback.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import select
import socket
import struct
import termios
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from hive_core.api.listener import bind
from hive_core.errors import HiveError, conflict

log = structlog.get_logger(__name__)

_LOOPBACK = "127.0.0.1"
MAX_PENDING = 8
"""Duplicates of one listener under way at a time; further requests are refused by closing them."""
_BACKLOG = 128
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
        self._lenders: dict[str, _Lender] = {}

    def release(self, name: str) -> None:
        """Close the socket of an agent that is gone, or that must not have it any more."""
        lender = self._lenders.pop(name, None)
        if lender is not None:
            lender.close()

    def close(self) -> None:
        """Close every socket."""
        for name in list(self._lenders):
            self.release(name)


class ViewSockets(LentSockets):
    """The view sockets of all agents."""

    def __init__(
        self, path_of: Callable[[str], Path], door_of: Callable[[str], Path], mode: int, group: int | None
    ) -> None:
        """`path_of` returns the path of an agent's socket; `mode` and `group` are those of the socket."""
        super().__init__(door_of)
        self._path_of = path_of
        self._mode = mode
        self._group = group

    def hold(self, name: str) -> None:
        """Listen on the agent's view socket and lend it to the agent; another one if it was made unusable.

        Raises `cannot_listen`.
        """
        lender = self._lenders.get(name)
        if lender is None:
            path, door = self._path_of(name), self._door_of(name)
            lender = self._lenders[name] = _ViewLender(door, path, self._mode, self._group)
        lender.listen()
        lender.open()


class PagePorts(LentSockets):
    """The ports of all agents' pages."""

    def is_free(self, port: int) -> bool:
        """Return True if nobody listens on the port."""
        try:
            socket.create_server((_LOOPBACK, port)).close()
        except OSError:
            return False
        return True

    def hold(self, name: str, port: int) -> None:
        """Listen on the port unless that is so already, and lend it to the agent.

        Raises `page_port_taken`, and tries again when the agent asks for it; `cannot_listen` for `page.sock`.
        """
        lender = self._lenders.get(name)
        if lender is None:
            lender = self._lenders[name] = _PortLender(self._door_of(name), port)
        try:
            lender.listen()
        finally:
            lender.open()


class _Lender(ABC):
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
            server.listen(_BACKLOG)
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


class _ViewLender(_Lender):
    """One agent's view socket."""

    def __init__(self, door: Path, path: Path, mode: int, group: int | None) -> None:
        super().__init__(door)
        self._path = path
        self._mode = mode
        self._group = group
        self._identity: tuple[int, int] | None = None

    def listen(self) -> socket.socket:
        if self._listener is not None:
            if self._is_usable(self._listener):
                # The agent may have set the length of the queue to 0.
                self._listener.listen(_BACKLOG)
                return self._listener
            log.warning("view socket made unusable, it is made anew", socket=str(self._path))
            self._listener.close()
            self._listener = None
            # A harness requests the next one when its connection to the door ends.
            self.shut()
            self.open()
        self._listener = bind(self._path, self._mode, self._group)
        self._listener.listen(_BACKLOG)
        self._identity = self._found()
        return self._listener

    def close(self) -> None:
        if self._listener is not None and self._found() == self._identity:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        super().close()

    def _received(self, caller: socket.socket) -> None:
        self._keep(caller)

    def _is_lendable(self) -> bool:
        return self._listener is not None and self._is_usable(self._listener)

    def _is_usable(self, listener: socket.socket) -> bool:
        """Return False if the agent has shut its duplicate down, or the path leads elsewhere."""
        try:
            same = listener.getsockname() == str(self._path) and self._found() == self._identity
            listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            return False
        # listen(2) succeeds on a unix socket that was shut down, although every connection to it is refused.
        poll = select.poll()
        poll.register(listener, select.POLLRDHUP)
        shut_down = any(events & (select.POLLRDHUP | select.POLLHUP) for _, events in poll.poll(0))
        return bool(same and listens and not shut_down)

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self._path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


class _PortLender(_Lender):
    """One agent's port."""

    def __init__(self, door: Path, port: int) -> None:
        super().__init__(door)
        self._port = port

    def listen(self) -> socket.socket:
        if self._listener is not None:
            if self._is_lendable():
                return self._listener
            self._listener.close()
            self._listener = None
        try:
            # With SO_REUSEADDR, which on Linux lets nobody share a port on which somebody listens.
            self._listener = socket.create_server((_LOOPBACK, self._port), backlog=_BACKLOG)
        except OSError as error:
            raise conflict(
                "page_port_taken",
                f"cannot listen on port {self._port} of 127.0.0.1: {os.strerror(error.errno or 0)}",
                "have the program that listens there use another port; the hive takes this one when it is free",
            ) from None
        self._listener.setblocking(False)
        return self._listener

    def _is_lendable(self) -> bool:
        """Return False if the agent has made its duplicate something else than a listener; it listens again if not."""
        if self._listener is None:
            return False
        try:
            self._listener.listen(_BACKLOG)
        except OSError:
            return False
        return True


def _unread(caller: socket.socket) -> int:
    """Return the number of sent bytes that were neither read nor discarded by a close (SIOCOUTQ, unix(7))."""
    (found,) = struct.unpack("i", fcntl.ioctl(caller, termios.TIOCOUTQ, struct.pack("i", 0)))
    return int(found)
