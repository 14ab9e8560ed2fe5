"""Listeners of this host that no sealed agent can reach: they show who did, whatever the agent says."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_TOKEN_BYTES = 200
_READ_SECONDS = 2.0
_MOST_AT_ONCE = 64


class HostListeners:
    """A port of the host's loopback, IPv4 and IPv6 where there is one, and an abstract unix socket.

    `seen` are those of the expected tokens that somebody has said to one of them, with the names of these listeners.
    """

    def __init__(self) -> None:
        self.answer = secrets.token_hex(16)
        """The answer to whoever comes: only the listener and those who have reached it know it."""
        self.abstract = f"hive-doctor-{secrets.token_hex(8)}"
        self.seen: dict[str, set[str]] = {}
        self._expected: set[str] = set()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(_MOST_AT_ONCE)
        self._listeners: dict[str, socket.socket] = {}

    def new_token(self) -> str:
        """Return a token by which an agent is known when it comes."""
        token = secrets.token_hex(16)
        with self._lock:
            self._expected.add(token)
        return token

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """The addresses on the loopback, by the name of the listener."""
        return {
            name: listener.getsockname()[:2]
            for name, listener in self._listeners.items()
            if listener.family != socket.AF_UNIX
        }

    @contextmanager
    def open(self) -> Iterator[None]:
        """Listen within the block. Raises OSError."""
        try:
            self._listeners["127.0.0.1"] = socket.create_server(("127.0.0.1", 0))
            with suppress(OSError):  # A host may have no IPv6.
                self._listeners["::1"] = socket.create_server(("::1", 0), family=socket.AF_INET6)
            unix = self._listeners[f"@{self.abstract}"] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            unix.bind(f"\0{self.abstract}")
            unix.listen()
            for name, listener in self._listeners.items():
                threading.Thread(target=self._accept, args=[name, listener], daemon=True).start()
            yield
        finally:
            for listener in self._listeners.values():
                with suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                listener.close()

    def _accept(self, name: str, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if not self._room.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=[name, connection], daemon=True).start()

    def _serve(self, name: str, connection: socket.socket) -> None:
        """Take note of who has come, and answer; whoever says nothing is not waited for long."""
        try:
            with connection, suppress(OSError):
                connection.settimeout(_READ_SECONDS)
                token = connection.recv(_TOKEN_BYTES).decode("ascii", "replace").strip()
                with self._lock:
                    if token not in self._expected:
                        return
                    self.seen.setdefault(token, set()).add(name)
                connection.sendall(self.answer.encode())
        finally:
            self._room.release()
