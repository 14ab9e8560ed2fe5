"""The acceptance of connections on a listener that an agent's side has made, and of which it may have a duplicate.

What it does to its duplicate reaches this process: it can shut the listener down, make it block again, and set options
that accepted connections inherit. An accept that blocks would stop the whole proxy, so a watcher ends it by shutting
the listener down. The agent has lost its own listener then, and nothing is accepted from it for a time: it could hand
one such listener after another over.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from hive_core.infra.concurrency.closing import NO_LINGER, close_apart
from hive_core.services.egress.agent import EgressAgent

log = structlog.get_logger(__name__)

_AT_ONCE = 16
"""Connections that are accepted before other work of the event loop."""
_OVERFULL = 32
"""Connections beyond the agent's limit that get an answer; further ones wait until some have ended."""
_PAUSE_SECONDS = 0.5
_LONGEST_ACCEPT_SECONDS = 0.1
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class AcceptBlocked(Exception):
    """The news that an accept has blocked, and was ended."""


class AcceptWatcher:
    """A thread that ends an accept that blocks. It sleeps while nothing is accepted."""

    def __init__(self) -> None:
        self._current: tuple[socket.socket, int] | None = None
        self._number = 0
        self._ended = 0
        self._begun = threading.Event()
        threading.Thread(target=self._watch, name="accept watcher", daemon=True).start()

    def accept(self, listener: socket.socket) -> socket.socket:
        """Accept a connection. Raises OSError, BlockingIOError if there is none, and AcceptBlocked."""
        self._number += 1
        self._current = (listener, self._number)
        if not self._begun.is_set():
            self._begun.set()
        try:
            return listener.accept()[0]
        except OSError:
            if self._ended == self._number:
                raise AcceptBlocked from None
            raise
        finally:
            self._current = None

    def _watch(self) -> None:
        while self._begun.wait():
            self._begun.clear()
            before = self._current
            time.sleep(_LONGEST_ACCEPT_SECONDS)
            after = self._current
            if after is None:
                continue
            self._begun.set()
            if after is before:
                log.warning("an accept blocked, its listener is shut down")
                self._ended = after[1]
                with suppress(OSError):
                    after[0].shutdown(socket.SHUT_RDWR)


class AgentListener:
    """One listener of one agent, from which connections are taken while the agent's limits allow it."""

    def __init__(
        self,
        agent: EgressAgent,
        listener: socket.socket,
        watcher: AcceptWatcher,
        serve: Callable[[socket.socket], None],
        lost: Callable[[str], None],
    ) -> None:
        """`serve` takes an accepted connection over; `lost` is called once if no more can be accepted."""
        self._agent = agent
        self._listener = listener
        self._watcher = watcher
        self._serve = serve
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._resumption: asyncio.TimerHandle | None = None
        self._loop.add_reader(listener, self._accept)
        self.port: int = listener.getsockname()[1]

    def replace(self) -> None:
        """Accept what waits already, and then no more: another listener takes its place."""
        if self._listener.fileno() >= 0:
            self._listener.setblocking(False)
            self._accept()
        self.close()

    def close(self) -> None:
        """Accept no more. Connections go on."""
        if self._resumption is not None:
            self._resumption.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            close_apart(self._listener.detach())

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._may_accept():
                self._pause()
                return
            try:
                connection = self._watcher.accept(self._listener)
                # Options of the listener are inherited: with SO_LINGER, a close would wait.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setblocking(False)
            except (BlockingIOError, ConnectionAbortedError):
                return
            except AcceptBlocked:
                self._agent.rest(self._loop.time())
                self.close()
                self._lost("an accept blocked")
                return
            except OSError as error:
                if error.errno in _PASSING:
                    log.warning("no connection accepted", agent=self._agent.name, error=str(error))
                    self._pause()
                else:
                    self.close()
                    self._lost(os.strerror(error.errno or 0))
                return
            self._agent.count_accepted()
            self._serve(connection)

    def _may_accept(self) -> bool:
        now = self._loop.time()
        if now < self._agent.rests_until:
            return False
        most = self._agent.decider.limits.connections + _OVERFULL
        return self._agent.allowance(now) >= 1 and len(self._agent.connections) < most

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener)
        wait = min(_PAUSE_SECONDS, self._agent.seconds_to_next(self._loop.time()) or _PAUSE_SECONDS)
        self._resumption = self._loop.call_later(wait, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)
