"""The program that serves an agent's sessions: it accepts connections, each in a process of its own.

It ends when it has had nothing to do for a while, and is started again for the next caller. What sessions leave running
counts as something to do, since it would end with this program.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hive_agent.access import session
from hive_agent.infra.lent_listener import receive_listener
from hive_core.protocol.access import frames

IDLE_SECONDS = 60.0
MOST_SESSIONS = 128
_DOOR_SECONDS = 5.0
_AGAIN_SECONDS = 0.5
"""Between requests for the socket of a daemon that is being restarted."""
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Serve sessions until there is nothing to do; returns the exit code."""
    # Orphans of sessions are this program's: the harness would end them with its next turn.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    door = Path(os.environ.get("HIVE_AGENT_RUN") or "/run/hive") / "access.sock"
    server = Server(door, dict(os.environ))
    try:
        server.serve()
    except OSError as error:
        sys.stderr.write(f"no sessions: {error.strerror or error}\n")
        time.sleep(1.0)  # It may be started again at once.
        return 1
    return 0


class Server:
    """Accepts callers on the access socket that the daemon lends at `door`."""

    def __init__(self, door: Path, variables: Mapping[str, str], idle_seconds: float = IDLE_SECONDS) -> None:
        """`variables` are the agent's, from which each session gets its own."""
        self._door = door
        self._variables = variables
        self._idle_seconds = idle_seconds
        self._sessions: set[int] = set()
        self._listener: socket.socket | None = None
        self._connection: socket.socket | None = None

    def serve(self) -> None:
        """Serve callers until there is nothing to do for a while. Raises OSError without a listener at the start."""
        self._fetch()
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        gc.freeze()
        idle_since = time.monotonic()
        while True:
            if self._reap():
                idle_since = time.monotonic()
            left = idle_since + self._idle_seconds - time.monotonic()
            if left <= 0:
                return
            if self._listener is None:  # The next daemon is not there yet.
                self._fetch_again()
            if self._listener is None:
                left = min(left, _AGAIN_SECONDS)
            poll = select.poll()
            poll.register(woken, select.POLLIN)
            for each in (self._listener, self._connection):
                if each is not None:
                    poll.register(each, select.POLLIN)
            found = {descriptor for descriptor, _ in poll.poll(min(left, self._idle_seconds) * 1_000)}
            if woken in found:
                with suppress(BlockingIOError):
                    os.read(woken, 4_096)
            if self._listener is not None and self._listener.fileno() in found:
                self._accept(self._listener)
                idle_since = time.monotonic()
            if self._connection is not None and self._connection.fileno() in found:
                self._fetch_again()

    def _fetch(self) -> None:
        request = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            request.settimeout(_DOOR_SECONDS)
            request.connect(str(self._door))
            self._listener = receive_listener(request, socket.AF_UNIX, None)
        except BaseException:
            request.close()
            raise
        self._connection = request

    def _fetch_again(self) -> None:
        """Get the socket of a new daemon, if it is there; sessions go on."""
        for each in (self._listener, self._connection):
            if each is not None:
                each.close()
        self._listener = self._connection = None
        with suppress(OSError):
            self._fetch()

    def _reap(self) -> bool:
        """Reap children; returns True while there are any."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._sessions.clear()
                return False
            if pid == 0:
                return True
            self._sessions.discard(pid)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # The caller has gone, or there is no descriptor left.
            return
        with connection:
            if len(self._sessions) >= MOST_SESSIONS:
                why = f"{MOST_SESSIONS} sessions are open in the agent"
                with suppress(OSError):
                    connection.send(frames.encode_error("too_many_sessions", why, "end some of them"))
                return
            try:
                pid = os.fork()
            except OSError as error:
                with suppress(OSError):
                    connection.send(
                        frames.encode_error("not_started", f"no process can be started in the agent: {error.strerror}")
                    )
                return
            if pid == 0:
                self._serve_session(connection)
            self._sessions.add(pid)

    def _serve_session(self, connection: socket.socket) -> None:
        """Serve a session in the child process, and exit."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (self._listener, self._connection):
                if each is not None:
                    each.close()
            session.serve(connection, self._variables)
            code = 0
        finally:
            os._exit(code)
