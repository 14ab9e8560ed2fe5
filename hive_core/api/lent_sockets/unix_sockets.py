"""Unix sockets that are lent to agents: their view and access sockets.

They lie in directories that no agent sees, and the daemon itself connects to access sockets. A listener of this kind
cannot be connected to anything else; an agent can only shut its duplicate down, and then the daemon makes another one:
at its start and at every `hold`, and at the door at most once in 10 s, so that an agent cannot keep it busy with that.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog

from hive_core.api.lent_sockets.lender import BACKLOG, Lender, LentSockets
from hive_core.errors import HiveError
from hive_core.infra.unix_sockets import bind

log = structlog.get_logger(__name__)


class UnixSockets(LentSockets):
    """The unix sockets of one purpose, one for each agent."""

    def __init__(
        self,
        purpose: str,
        path_of: Callable[[str], Path],
        door_of: Callable[[str], Path],
        mode: int,
        group: int | None = None,
    ) -> None:
        """`path_of` returns the path of an agent's socket; `mode` and `group` are those of the socket.

        `purpose` names the sockets in the log.
        """
        super().__init__(door_of)
        self._purpose = purpose
        self._path_of = path_of
        self._mode = mode
        self._group = group

    def hold(self, name: str) -> None:
        """Listen on the agent's socket and lend it to the agent; another one if it was made unusable.

        Raises `cannot_listen`.
        """
        lender = self._lenders.get(name)
        if lender is None:
            path, door = self._path_of(name), self._door_of(name)
            lender = self._lenders[name] = _UnixLender(self._purpose, door, path, self._mode, self._group)
        lender.listen()
        lender.open()

    def connect(self, name: str) -> socket.socket:
        """Return a connection to the agent's socket, which it may not have accepted yet; it does not block.

        Raises `cannot_listen`, and `access_busy` if too many callers wait already.
        """
        self.hold(name)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(str(self._path_of(name)))
        except OSError:
            connection.close()
            raise HiveError(
                "access_busy",
                f"{name} does not answer its {self._purpose}, and {BACKLOG} callers wait already",
                hint=f'restart the agent: "hive-c0re restart {name}"; its log says what it is doing',
                status=503,
            ) from None
        return connection


class SocketsOfAgents(Protocol):
    """Sockets of one purpose that agents have."""

    def hold(self, name: str) -> None:
        """Have the sockets of an agent, unless that is so already. Raises HiveError."""

    def release(self, name: str) -> None:
        """Close the sockets of an agent."""


class SocketGroup:
    """Sockets of several purposes, which each agent has all."""

    def __init__(self, *kinds: SocketsOfAgents) -> None:
        self._kinds = kinds

    def hold(self, name: str) -> None:
        """Hold the agent's sockets of all purposes; raises the error of the first that cannot be."""
        failure: HiveError | None = None
        for sockets in self._kinds:
            try:
                sockets.hold(name)
            except HiveError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def release(self, name: str) -> None:
        """Close the agent's sockets of all purposes."""
        for sockets in self._kinds:
            sockets.release(name)


class _UnixLender(Lender):
    """One agent's unix socket of one purpose."""

    def __init__(self, purpose: str, door: Path, path: Path, mode: int, group: int | None) -> None:
        super().__init__(door)
        self._purpose = purpose
        self._path = path
        self._mode = mode
        self._group = group
        self._identity: tuple[int, int] | None = None

    def listen(self) -> socket.socket:
        if self._listener is not None:
            if self._is_usable(self._listener):
                # The agent may have set the length of the queue to 0.
                self._listener.listen(BACKLOG)
                return self._listener
            log.warning(f"{self._purpose} made unusable, it is made anew", socket=str(self._path))
            self._listener.close()
            self._listener = None
            # A harness requests the next one when its connection to the door ends.
            self.shut()
            self.open()
        self._listener = bind(self._path, self._mode, self._group)
        self._listener.listen(BACKLOG)
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
