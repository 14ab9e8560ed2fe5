"""Send bytes to the proxy and print what comes: a CONNECT request for the target, and what stands behind it.

connect_program TARGET [TEXT]     after the answer TEXT is sent, and the sending end closed
connect_program - TEXT            only TEXT is sent
"""

from __future__ import annotations

import os
import socket
import sys


def main(target: str, text: str) -> None:
    """Talk to the proxy."""
    with socket.create_connection(("127.0.0.1", 3128), timeout=20) as connection:
        if target != "-":
            connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            print_bytes(connection.recv(4_096))
        connection.sendall(text.encode("latin-1"))
        if text and target != "-":
            connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65_536):
            print_bytes(data)


def print_bytes(data: bytes) -> None:
    """Print bytes as they are."""
    os.write(1, data)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].encode().decode("unicode_escape") if len(sys.argv) > 2 else "")
