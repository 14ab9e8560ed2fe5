"""Make a socket in this network namespace, and send it through stdin."""

from __future__ import annotations

import os
import socket
import sys


def make(kind: str) -> int:
    """Return the descriptor of a socket of some kind, or of what is none."""
    if kind == "file":
        return os.open("/etc/passwd", os.O_RDONLY)
    if kind == "pipe":
        return os.pipe()[0]
    if kind == "unix":
        unix = socket.socket(socket.AF_UNIX)
        unix.bind("\0hive-test")
        unix.listen()
        return unix.detach()
    if kind == "udp":
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 3128))
        return datagrams.detach()
    made = socket.socket(socket.AF_INET6 if kind == "listen6" else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if kind == "bound":
        made.bind(("127.0.0.1", 3128))
    elif kind == "everywhere":
        made.bind(("0.0.0.0", 3128))
        made.listen()
    elif kind == "listen6":
        made.bind(("::1", 3128))
        made.listen()
    elif kind == "connected":
        other = socket.create_server(("127.0.0.1", 0))
        made.connect(other.getsockname())
    else:
        made.bind(("127.0.0.1", int(kind.removeprefix("port")) if kind.startswith("port") else 3128))
        made.listen(128)
    return made.detach()


if __name__ == "__main__":
    with socket.socket(fileno=0) as channel:
        socket.send_fds(channel, [b"\0"], [make(sys.argv[1])])
