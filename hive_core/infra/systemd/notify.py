"""Notifications to systemd about the daemon: READY, STOPPING, STATUS, WATCHDOG and others (sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import socket
from array import array
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress


class Notifier:
    """A sender on `$NOTIFY_SOCKET`, which does nothing if systemd did not start the daemon."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")  # Removed so that children cannot notify.
        self._interval = _watchdog_seconds()

    def ready(self) -> None:
        """Report that the daemon answers on its sockets."""
        self.send(f"READY=1\nMAINPID={os.getpid()}")

    def stopping(self) -> None:
        """Report that the daemon is stopping."""
        self.send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self.send(f"STATUS={text}")

    async def keep_alive(self, alive: Callable[[], Awaitable[None]]) -> None:
        """Reset the watchdog each time that `alive` returns, twice per interval as sd_watchdog_enabled(3) advises."""
        while self._interval:
            await alive()
            self.send("WATCHDOG=1")
            await asyncio.sleep(self._interval / 2)

    def send(self, text: str, descriptors: Sequence[int] = ()) -> None:
        """Send lines of assignments, with duplicates of descriptors."""
        if not self._address:
            return
        # A leading @ means the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # A service manager that does not read must neither block nor end the daemon.
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
            # Not send_fds, which ignores the address before Python 3.12.
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
            sender.sendmsg([text.encode()], passed, 0, address)


def _watchdog_seconds() -> float:
    for_daemon = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if for_daemon and microseconds.isdigit() else 0.0
