"""Begin TLS for one host through the proxy, and go on for another one when the server asks for a second ClientHello."""

from __future__ import annotations

import os
import socket
import ssl
import sys


def hello(host: str) -> bytes:
    """Return a ClientHello as OpenSSL sends it."""
    sent = ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host).do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError


def main(first: str, second: str) -> None:
    """Print whether the server has asked for a second one, and what the proxy answers to that in hexadecimal."""
    with socket.create_connection(("127.0.0.1", 3128), timeout=30) as connection:
        connection.sendall(f"CONNECT {first}:443 HTTP/1.1\r\nHost: {first}\r\n\r\n".encode())
        connection.recv(4_096)
        connection.sendall(hello(first))
        if connection.recv(4_096)[11:15] == bytes.fromhex("cf21ad74"):
            os.write(1, b"asked for a second one\n")
        connection.sendall(hello(second))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(4_096):
            answer += piece
        os.write(1, f"{answer.hex()}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
