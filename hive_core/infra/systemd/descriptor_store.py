"""Listening sockets that systemd keeps for the daemon's next start (systemd's file descriptor store, sd_notify(3))."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from hive_core.infra.systemd.notify import Notifier

_FIRST_DESCRIPTOR = 3
"""sd_listen_fds(3): SD_LISTEN_FDS_START."""


class DescriptorStore:
    """The store of the daemon's unit; it keeps nothing without systemd 254 and FileDescriptorStoreMax= in the unit."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        # systemd.exec(5): set where the unit has a store.
        self._is_there = os.environ.pop("FDSTORE", "0") != "0"
        self._inherited = _take_inherited()

    def take(self, name: str) -> socket.socket | None:
        """Return the socket that an earlier daemon has stored under this name; the store keeps it, too."""
        return self._inherited.pop(name, None)

    def put(self, name: str, listener: socket.socket) -> None:
        """Store a socket under a name, in place of an earlier one."""
        self.remove(name)
        if self._is_there:
            # Without FDPOLL=0, so systemd forgets a socket that its agent has shut down.
            self._notifier.send(f"FDSTORE=1\nFDNAME={name}", [listener.fileno()])

    def remove(self, name: str) -> None:
        """Forget what is stored under a name."""
        if self._is_there:
            self._notifier.send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def remove_unused(self) -> None:
        """Close and forget all that an earlier daemon has stored and this one has not taken."""
        while self._inherited:
            name, stored = self._inherited.popitem()
            stored.close()
            self.remove(name)


def _take_inherited() -> dict[str, socket.socket]:
    """Return the sockets that systemd has passed with the start, by name, and hide them from child processes."""
    pid, count, names = (os.environ.pop(each, "") for each in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found: dict[str, socket.socket] = {}
    for descriptor, name in enumerate(names.split(":")[: int(count)], _FIRST_DESCRIPTOR):
        with suppress(OSError):  # Something else than a socket is left alone.
            os.set_inheritable(descriptor, False)
            passed = socket.socket(fileno=descriptor)
            found.setdefault(name, passed)
    return found
