"""Behave badly towards the proxy, in one of these ways:

block    make the listener on stdin block, connect to it once, and wait until it is shut down. Whoever accepts until
         nothing is left, relying on a listener that does not block, then waits for a next connection.
deaf     ask for much, and read nothing
slow     send a head byte by byte, and say when the proxy has ended that
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from contextlib import suppress


def block() -> None:
    """Attack the process that accepts."""
    os.set_blocking(0, True)
    with socket.create_connection(("127.0.0.1", 3128)) as connection:
        connection.sendall(b"G")  # The kernel hands a connection over when there is something to read.
        ended = select.poll()
        ended.register(0, 0)  # POLLHUP comes without being asked for.
        ended.poll()


def be_deaf() -> None:
    """Let the proxy hold bytes that nobody reads."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", 3128))
        connection.sendall(b"GET http://ok.example.org/bytes?count=50000000 HTTP/1.0\r\n\r\n")
        select.select([connection], [], [])
        os.write(1, b"waits\n")
        time.sleep(60)


def be_slow() -> None:
    """Keep a connection busy with a head that does not end."""
    with socket.create_connection(("127.0.0.1", 3128)) as connection, suppress(OSError):
        connection.sendall(b"GET http://ok.example.org/")
        os.write(1, b"waits\n")
        while not select.select([connection], [], [], 0.5)[0]:
            connection.sendall(b"a")
    os.write(1, b"ended\n")


if __name__ == "__main__":
    {"block": block, "deaf": be_deaf, "slow": be_slow}[sys.argv[1]]()
