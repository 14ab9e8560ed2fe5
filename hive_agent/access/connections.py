"""Connections of a caller to a TCP port of the agent."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress

from hive_agent.access.refusal import Refusal
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame, FrameReader
from hive_core.protocol.access.relay import Relay

_CONNECT_SECONDS = 10.0
_MOST_CHANNELS = 512
"""Connections of one session at a time."""
_LOOPBACKS = ("127.0.0.1", "::1")
"""Programs that listen on "localhost" may have only one of the two."""


def connect(port: int) -> socket.socket:
    """Return a connection to a port of the agent's loopback. Raises Refusal `no_connection`."""
    reason = ""
    for host in _LOOPBACKS:
        try:
            connection = socket.create_connection((host, port), _CONNECT_SECONDS)
        except OSError as error:
            reason = reason or os.strerror(error.errno) if error.errno else "it did not answer in time"
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    raise Refusal(
        "no_connection",
        f"port {port} of the agent cannot be connected to: {reason}",
        "check that its program runs and listens on localhost",
    )


def serve_one(caller: socket.socket, port: int) -> None:
    """Connect to the port, answer, and pass bytes on until one side has ended. Raises Refusal."""
    connection = connect(port)
    caller.sendall(frames.encode_json(frames.ANSWER, {}))
    relay = Relay()
    relay.add(caller, connection)
    while len(relay):
        relay.run_once()


class Forward:
    """A session with any number of connections to one port."""

    def __init__(self, caller: socket.socket, port: int) -> None:
        self._caller = caller
        self._port = port
        self._relay = Relay()
        self._reader = FrameReader(frozenset({frames.CHANNEL}))
        self._open = True

    def serve(self) -> None:
        """Serve connections until the caller has gone; that ends all of them."""
        self._caller.sendall(frames.encode_json(frames.ANSWER, {}))
        self._relay.watch(self._caller, self._receive)
        while self._open:
            self._relay.run_once()
        self._relay.close()

    def _receive(self) -> None:
        try:
            arrived, descriptors, _, _ = socket.recv_fds(self._caller, frames.HEADER.size, 1)
        except OSError:
            arrived, descriptors = b"", []
        channels = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        try:
            self._reader.feed(arrived)
        except BadFrame:
            arrived = b""
        if not arrived:
            self._open = False
        for channel in channels:
            self._begin(channel)

    def _begin(self, channel: socket.socket) -> None:
        try:
            if len(self._relay) >= _MOST_CHANNELS:
                raise Refusal("too_many_connections", f"{_MOST_CHANNELS} connections to port {self._port} are open")
            connection = connect(self._port)
        except Refusal as refusal:
            with channel, suppress(OSError):
                channel.sendall(frames.encode_error(refusal.code, str(refusal), refusal.hint))
            return
        try:
            channel.sendall(frames.encode_json(frames.ANSWER, {}))
        except OSError:
            channel.close()
            connection.close()
            return
        self._relay.add(channel, connection)


def has_gone(connection: socket.socket) -> bool:
    """Return True if the other end has closed the connection."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return any(events & (select.POLLHUP | select.POLLRDHUP | select.POLLERR) for _, events in poll.poll(0))
