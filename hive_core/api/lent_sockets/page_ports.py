"""The ports of agents' pages.

The port is for agents with the host's network. Any program can bind a free port of the loopback, so the daemon holds an
agent's port from its spawn to its destruction, and no other program can pose as an agent that is down. An agent whose
network is sealed gets no port: a TCP listener can be shut down and then connected (tcp(7) knows no right that would
forbid it), and would lead it to every service on the host's loopback.

While the daemon is restarted, systemd keeps the ports. A harness in a container goes on meanwhile with its duplicate:
otherwise the next daemon could not listen there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hive_core.api.lent_sockets.lender import BACKLOG, Lender, LentSockets
from hive_core.errors import conflict
from hive_core.infra.systemd.descriptor_store import DescriptorStore

_LOOPBACK = "127.0.0.1"


class PagePorts(LentSockets):
    """The ports of all agents' pages, which `store` keeps for the next daemon."""

    def __init__(self, door_of: Callable[[str], Path], store: DescriptorStore | None = None) -> None:
        super().__init__(door_of)
        self._store = store

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
            lender = self._lenders[name] = _PortLender(self._door_of(name), port, _stored_name(name), self._store)
        try:
            lender.listen()
        finally:
            lender.open()

    def release(self, name: str) -> None:
        if name in self._lenders and self._store is not None:
            self._store.remove(_stored_name(name))
        super().release(name)

    def close(self) -> None:
        """Close every port here; the store keeps them."""
        for lender in self._lenders.values():
            lender.close()
        self._lenders.clear()

    def forget_unused(self) -> None:
        """Close the ports that an earlier daemon has held for agents that have none any more."""
        if self._store is not None:
            self._store.remove_unused()


def _stored_name(agent: str) -> str:
    return f"page-{agent}"


class _PortLender(Lender):
    """One agent's port."""

    def __init__(self, door: Path, port: int, name: str, store: DescriptorStore | None) -> None:
        super().__init__(door)
        self._port = port
        self._name = name
        self._store = store

    def listen(self) -> socket.socket:
        if self._listener is None:
            self._listener = self._take_stored()
        if self._listener is not None:
            if self._is_lendable():
                return self._listener
            self._listener.close()
            self._listener = None
        try:
            # With SO_REUSEADDR, which on Linux lets nobody share a port on which somebody listens.
            self._listener = socket.create_server((_LOOPBACK, self._port), backlog=BACKLOG)
        except OSError as error:
            raise conflict(
                "page_port_taken",
                f"cannot listen on port {self._port} of 127.0.0.1: {os.strerror(error.errno or 0)}",
                "have the program that listens there use another port; the hive takes this one when it is free",
            ) from None
        self._listener.setblocking(False)
        if self._store is not None:
            self._store.put(self._name, self._listener)
        return self._listener

    def _take_stored(self) -> socket.socket | None:
        """Return the listener of an earlier daemon, unless the agent has made it something else."""
        stored = None if self._store is None else self._store.take(self._name)
        if stored is None:
            return None
        with suppress(OSError):
            is_listening = stored.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if is_listening and stored.family == socket.AF_INET and stored.getsockname() == (_LOOPBACK, self._port):
                stored.setblocking(False)
                return stored
        stored.close()
        return None

    def _is_lendable(self) -> bool:
        """Return False if the agent has made its duplicate something else than a listener; it listens again if not."""
        if self._listener is None:
            return False
        try:
            self._listener.listen(BACKLOG)
        except OSError:
            return False
        return True
