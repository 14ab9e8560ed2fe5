"""A port of this host's loopback whose connections lead to a port of an agent."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from hive_core.cli.access.session import ANSWER_SECONDS
from hive_core.cli.errors import Failure
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame
from hive_core.protocol.access.relay import Relay
from hive_core.text import escaped_line

_LOOPBACK = "127.0.0.1"
_BACKLOG = 128
_MOST_CONNECTIONS = 512
_LONGEST_ANSWER = 8_192
_LONGEST_REASON = 500
_CHECK_SECONDS = 1.0


def listen(port: int) -> socket.socket:
    """Return a listener on a port of 127.0.0.1; 0 chooses a free one. Raises Failure."""
    try:
        return socket.create_server((_LOOPBACK, port), backlog=_BACKLOG)
    except OSError as error:
        raise Failure(
            "cannot_listen",
            f"cannot listen on port {port} of {_LOOPBACK}: {error.strerror}",
            hint="name another one: PORT:LOCAL",
        ) from None


class Forwarder:
    """Passes connections on through one session of the kind `forward`."""

    def __init__(self, connection: socket.socket, listener: socket.socket, report: Callable[[str], None]) -> None:
        """`report` gets the reason of each connection that the agent's side refuses, in one line."""
        self._connection = connection
        self._listener = listener
        self._report = report
        self._relay = Relay()
        self._waiting: dict[socket.socket, tuple[_Answer, socket.socket]] = {}
        """Connections that the agent's side has not answered, the oldest first, with their callers."""
        self._open = True

    def serve(self) -> None:
        """Pass connections on until the session ends."""
        self._listener.setblocking(False)
        self._relay.watch(self._listener, self._accept)
        self._relay.watch(self._connection, self._stop)
        try:
            while self._open:
                self._relay.run_once(_CHECK_SECONDS if self._waiting else None)
                self._end_unanswered()
        finally:
            for ours, (_, caller) in self._waiting.items():
                ours.close()
                caller.close()
            self._relay.close()

    def _stop(self) -> None:
        self._open = False  # Nothing is sent behind the answer: the session has ended.

    def _accept(self) -> None:
        try:
            caller, _ = self._listener.accept()
        except OSError:
            return
        if len(self._relay) + len(self._waiting) >= _MOST_CONNECTIONS:
            caller.close()
            return
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A pair of unix sockets, of which the agent gets one: the caller's own socket would be of more use to it.
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._connection, [frames.encode(frames.CHANNEL)], [theirs.fileno()])
        except OSError:
            ours.close()
            caller.close()
            self._open = False
            return
        self._waiting[ours] = _Answer(ours), caller
        self._relay.watch(ours, lambda: self._answered(ours))

    def _answered(self, ours: socket.socket) -> None:
        """Pass bytes on when the agent's side has answered."""
        try:
            frame = self._waiting[ours][0].take()
        except (BadFrame, OSError) as error:
            self._refuse(ours, f"no answer: {error}")
            return
        if frame is None:
            return
        kind, content = frame
        if kind == frames.ANSWER:
            self._relay.selector.unregister(ours)
            self._relay.add(ours, self._waiting.pop(ours)[1])
            return
        try:
            why = str(frames.decode_json(content).get("message", ""))
        except BadFrame as error:
            why = str(error)
        self._refuse(ours, why)

    def _end_unanswered(self) -> None:
        now = time.monotonic()
        while (oldest := next(iter(self._waiting), None)) and self._waiting[oldest][0].until < now:
            self._refuse(oldest, "no answer")

    def _refuse(self, ours: socket.socket, why: str) -> None:
        _, caller = self._waiting.pop(ours)
        self._relay.selector.unregister(ours)
        self._report(escaped_line(why[:_LONGEST_REASON]))
        ours.close()
        caller.close()


class _Answer:
    """The answer of the agent's side for one connection, of which nothing behind it is read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._arrived = b""
        self.until = time.monotonic() + ANSWER_SECONDS

    def take(self) -> tuple[int, bytes] | None:
        """Return type and content, None if they have not arrived completely. Raises BadFrame and OSError."""
        length = self._header()[1] if len(self._arrived) >= frames.HEADER.size else 0
        try:
            missing = frames.HEADER.size + length - len(self._arrived)
            part = self._connection.recv(missing, socket.MSG_DONTWAIT) if missing else b""
        except BlockingIOError:
            return None
        if missing and not part:
            raise BadFrame("the end of the connection")
        self._arrived += part
        if len(self._arrived) < frames.HEADER.size:
            return None
        kind, length = self._header()
        if len(self._arrived) < frames.HEADER.size + length:
            return None
        return kind, self._arrived[frames.HEADER.size :]

    def _header(self) -> tuple[int, int]:
        header = self._arrived[: frames.HEADER.size]
        kind, length = frames.decode_header(header, frozenset({frames.ANSWER, frames.ERROR}))
        if frames.HEADER.size + length > _LONGEST_ANSWER:
            raise BadFrame("an answer that is too long")
        return kind, length
