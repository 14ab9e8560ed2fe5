"""The TCP ports of the agents' pages: the daemon's, from an agent's spawn to its destruction, and lent to harnesses.

Ports of a shared loopback have no owner: whoever binds one first has it. So the daemon does, whether a harness runs or
not, and nobody else can stand in for an agent that is down. A harness gets a duplicate of the listening socket on the
unix socket `page.sock` beside its `core.sock` (SCM_RIGHTS, unix(7)); with that, accepting is its own business.

None for an agent whose network is sealed: a listening socket can be shut down and then connected (tcp(7) knows no
right that would forbid it), and would lead it to every service on the host's loopback.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable
from pathlib import Path

import structlog

from hive_core.api.listener import bind
from hive_core.errors import HiveError, conflict

log = structlog.get_logger(__name__)

MAX_PENDING = 8
"""Duplicates of one agent's that are under way at a time; who asks for more is hung up on."""
_BACKLOG = 128
"""Browsers that wait while no harness runs: the kernel lets further ones try again. Callers of `page.sock`, too."""
_LOOK_SECONDS = 1.0


class PagePorts:
    """The ports of all agents. Lives on the loop that it is used on."""

    def __init__(self, path_of: Callable[[str], Path]) -> None:
        """`path_of` says where an agent's `page.sock` is to be."""
        self._path_of = path_of
        self._lenders: dict[str, _PortLender] = {}

    def hold(self, name: str, port: int) -> None:
        """Listen on the port unless that is so already, and lend it to the agent.

        Raises `page_port_taken`, and tries again when the agent asks for it; `cannot_listen` for `page.sock`.
        """
        lender = self._lenders.get(name)
        if lender is None:
            lender = self._lenders[name] = _PortLender(self._path_of(name), port)
        try:
            lender.listen()
        finally:
            lender.open()

    def release(self, name: str) -> None:
        """The agent is gone, or its network is sealed: anybody may have the port."""
        lender = self._lenders.pop(name, None)
        if lender is not None:
            lender.close()

    def close(self) -> None:
        """Release every port."""
        for name in list(self._lenders):
            self.release(name)


class _PortLender:
    """One agent's port, and the socket on which it is lent."""

    def __init__(self, path: Path, port: int) -> None:
        self._path = path
        self._port = port
        self._page: socket.socket | None = None
        self._lend_socket: socket.socket | None = None
        self._loans: set[socket.socket] = set()

    def listen(self) -> socket.socket:
        """What listens on the port, made anew if whoever it was lent to has made something else of it."""
        if self._page is not None:
            try:
                self._page.listen(_BACKLOG)
                return self._page
            except OSError:
                self._page.close()
                self._page = None
        try:
            # With SO_REUSEADDR, which on Linux lets nobody share a port on which somebody listens.
            self._page = socket.create_server(("127.0.0.1", self._port), backlog=_BACKLOG)
        except OSError as error:
            raise conflict(
                "page_port_taken",
                f"cannot listen on port {self._port} of 127.0.0.1: {os.strerror(error.errno or 0)}",
                "have the program that listens there use another port, then restart the agent",
            ) from None
        self._page.setblocking(False)
        return self._page

    def open(self) -> None:
        """Lend to whoever connects to `page.sock`, which is the agent. Raises `cannot_listen`."""
        if self._lend_socket is None:
            door = bind(self._path, 0o600, None)
            door.listen(_BACKLOG)
            asyncio.get_running_loop().add_reader(door, self._called, door)
            self._lend_socket = door

    def close(self) -> None:
        if self._lend_socket is not None:
            asyncio.get_running_loop().remove_reader(self._lend_socket)
            self._lend_socket.close()
            self._lend_socket = None
            self._path.unlink(missing_ok=True)
        for loan in self._loans:
            loan.close()
        self._loans.clear()
        if self._page is not None:
            self._page.close()
            self._page = None

    def _called(self, door: socket.socket) -> None:
        try:
            caller, _ = door.accept()
        except OSError:  # It has gone again, or there is no descriptor left.
            return
        if len(self._loans) >= MAX_PENDING:
            caller.close()
            return
        caller.setblocking(False)
        try:
            page = self.listen()
            # Its buffer is empty: this does not block.
            socket.send_fds(caller, [b"\0"], [page.fileno()])
        except (HiveError, OSError) as error:
            log.warning("port not lent to its agent", port=self._port, error=str(error))
            caller.close()
            return
        self._loans.add(caller)
        self._look_later(caller)

    def _look_later(self, caller: socket.socket) -> None:
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look, caller)

    def _look(self, caller: socket.socket) -> None:
        """Hang up when the duplicate was taken: one that is under way uses up what the kernel allows the daemon."""
        if caller not in self._loans:
            return
        if _unread(caller):
            self._look_later(caller)
        else:
            self._loans.discard(caller)
            caller.close()


def _unread(caller: socket.socket) -> int:
    """How much of what was sent has neither been read nor thrown away by a close (SIOCOUTQ, unix(7))."""
    (found,) = struct.unpack("i", fcntl.ioctl(caller, termios.TIOCOUTQ, struct.pack("i", 0)))
    return int(found)
