"""The TCP ports of the agents' pages, which the daemon holds and lends to harnesses.

Any program can bind a free port of the loopback. So the daemon holds an agent's port from its spawn to its
destruction, and no other program can pose as an agent that is down. A harness gets a duplicate of the listening socket
on the unix socket `page.sock` beside its `core.sock` (SCM_RIGHTS, unix(7)); with that it accepts connections itself.

An agent whose network is sealed gets no port: a listening socket can be shut down and then connected (tcp(7) knows no
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
"""Duplicates of one agent's port under way at a time; further requests are refused by closing them."""
_BACKLOG = 128
"""Browsers that wait while no harness runs: the kernel lets further ones try again. Callers of `page.sock`, too."""
_CHECK_SECONDS = 1.0


class PagePorts:
    """The ports of all agents; used on one event loop."""

    def __init__(self, path_of: Callable[[str], Path]) -> None:
        """`path_of` returns the path of an agent's `page.sock`."""
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
        """Release the port of an agent that is gone or whose network is sealed."""
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
        """Return the listening socket; a new one if the agent has made its duplicate unusable."""
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
        """Lend the port to callers of `page.sock`, which is the agent's alone. Raises `cannot_listen`."""
        if self._lend_socket is None:
            server = bind(self._path, 0o600, None)
            server.listen(_BACKLOG)
            asyncio.get_running_loop().add_reader(server, self._accept, server)
            self._lend_socket = server

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

    def _accept(self, server: socket.socket) -> None:
        try:
            caller, _ = server.accept()
        except OSError:  # The caller has hung up, or there is no descriptor left.
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
        self._check_later(caller)

    def _check_later(self, caller: socket.socket) -> None:
        asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check, caller)

    def _check(self, caller: socket.socket) -> None:
        """Close the connection when the duplicate was received: one in flight counts against the daemon's limit."""
        if caller not in self._loans:
            return
        if _unread(caller):
            self._check_later(caller)
        else:
            self._loans.discard(caller)
            caller.close()


def _unread(caller: socket.socket) -> int:
    """Return the number of sent bytes that were neither read nor discarded by a close (SIOCOUTQ, unix(7))."""
    (found,) = struct.unpack("i", fcntl.ioctl(caller, termios.TIOCOUTQ, struct.pack("i", 0)))
    return int(found)
