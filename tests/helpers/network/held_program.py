"""Hold a connection through the proxy open: lines from stdin go out, and what comes is printed."""

from __future__ import annotations

import os
import select
import socket
import sys


def main(target: str) -> None:
    """Copy in both directions until the proxy ends the connection."""
    with socket.create_connection(("127.0.0.1", 3128), timeout=30) as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        sources = [connection.fileno(), 0]
        while True:
            readable, _, _ = select.select(sources, [], [])
            if 0 in readable:
                if data := os.read(0, 4_096):
                    connection.sendall(data)
                else:
                    sources.remove(0)
            if connection.fileno() in readable:
                try:
                    data = connection.recv(4_096)
                except ConnectionResetError:
                    return
                if not data:
                    return
                os.write(1, data.replace(b"\r\n\r\n", b"\n").replace(b"\r\n", b"\n"))


if __name__ == "__main__":
    main(sys.argv[1])
