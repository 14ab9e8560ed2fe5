"""The door of one agent: a socket at which it hands descriptors over, served by a thread of its own.

Whoever closes a descriptor that an agent has made can be kept for as long as the agent likes: by a connection that
lingers (SO_LINGER, socket(7)), or a file of a filesystem that the agent serves (FUSE). The kernel's own discard of
descriptors that nobody has received keeps the thread, too, that closes their connection. So this thread receives and
closes all that comes here, a few packets in a second, and nothing ever waits for it.
"""

from __future__ import annotations

import array
import asyncio
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import structlog

from hive_core.infra.concurrency.closing import close_apart
from hive_core.infra.packets import MOST_BYTES

log = structlog.get_logger(__name__)

_CONNECTIONS = 2
"""Open at one door: that of the harness, and that of the one before it, whose end is not seen yet."""
_BURST = 32.0
"""Connections and packets that are taken at once; after them one in a second."""
_ROOM = socket.CMSG_LEN(array.array("i").itemsize)
"""For one descriptor: the kernel discards further ones, and says so (MSG_CTRUNC)."""
_TOLD_SECONDS = 60.0
_HANG_UP, _CLOSE = b"h", b"c"


class NotAcceptable(Exception):
    """Something that an agent must not hand over; the text says why."""


class HandedListener(NamedTuple):
    """A listener that was handed over and checked, with its purpose, and the key that callers there have to bring."""

    purpose: str
    listener: socket.socket
    key: str = ""


class HandoverDoor:
    """One agent's door, and the connections at it. Its methods are called on the event loop."""

    def __init__(
        self,
        name: str,
        server: socket.socket,
        check: Callable[[bytes, int], HandedListener],
        received: Callable[[str, HandedListener], None],
    ) -> None:
        """Take over `server`, a bound socket of SOCK_SEQPACKET.

        `check` is called on the door's thread with a packet and its descriptor; it returns the listener that the
        descriptor is, or raises NotAcceptable and leaves the descriptor open. `received` is called on the event loop
        with the agent's name and the listener, which it takes over.
        """
        server.listen(_CONNECTIONS)
        self._name = name
        self._server = server
        self._check = check
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._told = 0.0
        self._closed = False
        self._orders, self._ordered = socket.socketpair()
        self._callers: list[socket.socket] = []
        self._allowance, self._counted = _BURST, time.monotonic()
        threading.Thread(target=self._serve, name="door", daemon=True).start()

    def hang_up(self) -> None:
        """End the connections, so that the harness connects again and hands its listeners over anew."""
        with suppress(OSError):
            self._orders.send(_HANG_UP)

    def close(self) -> None:
        """Receive no more."""
        if not self._closed:
            self._closed = True
            with suppress(OSError):
                self._orders.send(_CLOSE)
            self._orders.close()

    # --- on the thread ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            for each in (self._server, self._ordered, *self._callers):
                each.close()

    def _turn(self) -> bool:
        """Wait for one thing to do, and do it; return False at the end."""
        is_allowed = self._refill()
        poll = select.poll()
        poll.register(self._ordered, select.POLLIN)
        if is_allowed:
            for each in (self._server, *self._callers):
                poll.register(each, select.POLLIN)
        happened = {number for number, _ in poll.poll(None if is_allowed else (1 - self._allowance) * 1_000)}
        if self._ordered.fileno() in happened:
            if self._ordered.recv(1) != _HANG_UP:
                return False
            while self._callers:
                self._callers.pop().close()
        elif happened:
            self._allowance -= 1
            if self._server.fileno() in happened:
                self._accept()
            else:
                self._receive(next(each for each in self._callers if each.fileno() in happened))
        return True

    def _refill(self) -> bool:
        now = time.monotonic()
        self._allowance = min(_BURST, self._allowance + now - self._counted)
        self._counted = now
        return self._allowance >= 1

    def _accept(self) -> None:
        with suppress(OSError):  # The caller has hung up, or there is no descriptor left.
            caller, _ = self._server.accept()
            caller.setblocking(False)
            self._callers.append(caller)
        while len(self._callers) > _CONNECTIONS:
            self._callers.pop(0).close()

    def _receive(self, caller: socket.socket) -> None:
        try:
            packet, attached, flags, _ = caller.recvmsg(MOST_BYTES, _ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            packet, attached, flags = b"", [], 0
        descriptor = _descriptor(attached)
        try:
            if not packet:
                self._callers.remove(caller)
                caller.close()
            elif descriptor is None or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise NotAcceptable("a packet that is too long, or has not just one descriptor")
            else:
                handed = self._check(packet, descriptor)
                descriptor = None
                if not self._call(lambda: self._deliver(handed)):
                    handed.listener.close()
        except NotAcceptable as why:
            reason = str(why)
            self._call(lambda: self._tell(reason))
        finally:
            if descriptor is not None:
                with suppress(OSError):  # What a filesystem says about the end of a file.
                    os.close(descriptor)

    def _call(self, function: Callable[[], None]) -> bool:
        """Call a function on the event loop; returns False if that has ended."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    # ----------------------------------------------------------------------------------------------------------

    def _deliver(self, handed: HandedListener) -> None:
        if self._closed:
            close_apart(handed.listener.detach())
        else:
            self._received(self._name, handed)

    def _tell(self, why: str) -> None:
        """Log a refusal, at most once in a minute, so that an agent cannot fill the log."""
        now = self._loop.time()
        if not self._told or now - self._told >= _TOLD_SECONDS:
            self._told = now
            log.warning("what an agent handed over is refused", agent=self._name, why=why)


def _descriptor(attached: list[tuple[int, int, bytes]]) -> int | None:
    """Return the descriptor that came with a packet, for no more than one of which there was room."""
    for level, kind, data in attached:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and data:
            return int(array.array("i", data)[0])
    return None
