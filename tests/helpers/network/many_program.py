"""Send many requests, one connection each, and print how many were answered."""

from __future__ import annotations

import os
import socket
import sys


def main(requests: list[str]) -> None:
    """Send the requests one after the other."""
    answered = 0
    for request in requests:
        with socket.create_connection(("127.0.0.1", 3128), timeout=30) as connection:
            connection.sendall(f"{request}\r\n\r\n".encode())
            answered += connection.recv(65_536).startswith(b"HTTP/1.1 ")
    os.write(1, f"{answered}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1].split("&"))
