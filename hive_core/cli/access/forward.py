"""A port of this host's loopback whose connections lead to a port of an agent."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from hive_core.cli.errors import Failure
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame
from hive_core.protocol.access.relay import Relay
from hive_core.text import escaped_line

_LOOPBACK = "127.0.0.1"
_BACKLOG = 128
_MOST_CONNECTIONS = 512
_LONGEST_ANSWER = 8_192


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
        self._waiting = 0
        self._open = True

    def serve(self) -> None:
        """Pass connections on until the session ends."""
        self._listener.setblocking(False)
        self._relay.watch(self._listener, self._accept)
        self._relay.watch(self._connection, self._stop)
        try:
            while self._open:
                self._relay.run_once()
        finally:
            self._relay.close()

    def _stop(self) -> None:
        self._open = False  # Nothing is sent behind the answer: the session has ended.

    def _accept(self) -> None:
        try:
            caller, _ = self._listener.accept()
        except OSError:
            return
        if len(self._relay) + self._waiting >= _MOST_CONNECTIONS:
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
        self._waiting += 1
        self._relay.watch(ours, lambda: self._answered(ours, caller))

    def _answered(self, ours: socket.socket, caller: socket.socket) -> None:
        """Pass bytes on when the agent's side has answered; read nothing behind its answer."""
        try:
            frame = _take_answer(ours)
        except (BadFrame, OSError) as error:
            frame = (frames.ERROR, frames.encode_error("bad_frame", f"no answer: {error}")[frames.HEADER.size :])
        if frame is None:
            return
        self._relay.selector.unregister(ours)
        self._waiting -= 1
        kind, content = frame
        if kind == frames.ANSWER:
            self._relay.add(ours, caller)
            return
        ours.close()
        caller.close()
        with suppress(BadFrame):
            self._report(escaped_line(str(frames.decode_json(content).get("message", ""))[:500]))


def _take_answer(connection: socket.socket) -> tuple[int, bytes] | None:
    """Return type and content of the answer, None if it has not arrived completely. Raises BadFrame and OSError."""
    arrived = connection.recv(_LONGEST_ANSWER, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    if not arrived:
        raise BadFrame("the end of the connection")
    if len(arrived) < frames.HEADER.size:
        return None
    kind, length = frames.decode_header(arrived[: frames.HEADER.size], frozenset({frames.ANSWER, frames.ERROR}))
    if frames.HEADER.size + length > _LONGEST_ANSWER:
        raise BadFrame("an answer that is too long")
    if len(arrived) < frames.HEADER.size + length:
        return None
    return kind, connection.recv(frames.HEADER.size + length)[frames.HEADER.size :]
