"""Telling systemd how the daemon is: READY, STOPPING, WATCHDOG (sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress


class Notifier:
    """Speaks on `$NOTIFY_SOCKET`; says nothing when the daemon was not started by systemd."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")  # Taken out so that children do not speak for the daemon.
        self._interval = _watchdog_seconds()

    def ready(self) -> None:
        """The daemon answers on its sockets."""
        self._say(f"READY=1\nMAINPID={os.getpid()}")

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        self._say("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._say(f"STATUS={text}")

    async def keep_alive(self, alive: Callable[[], Awaitable[None]]) -> None:
        """Twice per watchdog interval, as sd_watchdog_enabled(3) advises, tell that `alive` returned."""
        while self._interval:
            await alive()
            self._say("WATCHDOG=1")
            await asyncio.sleep(self._interval / 2)

    def _say(self, text: str) -> None:
        if not self._address:
            return
        # A leading @ means the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # A manager that is gone or does not listen must not hold up or end the daemon.
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as speaker:
            speaker.sendto(text.encode(), address)


def _watchdog_seconds() -> float:
    for_me = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if for_me and microseconds.isdigit() else 0.0
