"""Hold a connection to the proxy: ask for much and read nothing, or (`slow`) send a head byte by byte."""

from __future__ import annotations

import os
import select
import socket
import sys
import time


def main(slow: bool) -> None:
    """Behave badly until the proxy ends the connection."""
    with socket.socket() as connection:
        if not slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", 3128))
        path = b"bytes?count=50000000"
        connection.sendall(b"GET http://ok.example.org/" + (b"" if slow else path + b" HTTP/1.0\r\n\r\n"))
        if not slow:
            select.select([connection], [], [])
        os.write(1, b"waits\n")
        try:
            while slow and not select.select([connection], [], [], 0.5)[0]:
                connection.sendall(b"a")
        except OSError:
            pass
        if slow:
            os.write(1, b"ended\n")
        else:
            time.sleep(60)


if __name__ == "__main__":
    main(len(sys.argv) > 1)
