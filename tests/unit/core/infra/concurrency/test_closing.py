"""The end of descriptors that somebody else has made."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import suppress

from hive_core.infra.concurrency.closing import close_apart


def test_a_connection_that_lingers_keeps_nobody() -> None:
    """A connection with unsent bytes, whose close would wait for long, is closed at once, and the other end sees it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    made.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            made.send(b"x" * 65_536)
    began = time.monotonic()
    close_apart(made.detach())
    assert time.monotonic() - began < 5
    with other:
        other.settimeout(10)
        while other.recv(65_536):
            pass


def test_what_is_no_socket_is_closed() -> None:
    """A pipe is closed as well."""
    end, given = os.pipe()
    close_apart(given)
    assert os.read(end, 1) == b""
    os.close(end)
