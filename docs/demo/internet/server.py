"""The server of the demo's small internet: a list of prices over HTTP, and its name over DNS.

server.py ADDRESS NAMES HOST
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading

_PRICES = b"apples 120\npears 90\n"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(_PRICES)
_HEAD_BYTES = 12
"""Size of the head of a DNS message (RFC 1035, section 4.1.1)."""
_TYPE_A = 1


def serve_prices(listener: socket.socket) -> None:
    """Answer each request with the list."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(_HEAD + _PRICES)


def serve_names(datagrams: socket.socket, host: str, address: str) -> None:
    """Answer questions for the address of the host; there is no other name."""
    known = b"".join(bytes([len(label)]) + label for label in host.encode().split(b".")) + b"\0"
    while True:
        query, sender = datagrams.recvfrom(512)
        end = query.find(b"\0", _HEAD_BYTES) + 5
        question = query[_HEAD_BYTES:end]
        if len(question) < 5:
            continue
        name, kind = question[:-4].lower(), struct.unpack(">H", question[-4:-2])[0]
        is_known = name == known
        answers = b""
        if is_known and kind == _TYPE_A:
            answers = b"\xc0\x0c" + struct.pack(">HHIH", _TYPE_A, 1, 60, 4) + socket.inet_aton(address)
        head = struct.pack(">HHHHH", 0x8580 if is_known else 0x8583, 1, bool(answers), 0, 0)
        datagrams.sendto(query[:2] + head + question + answers, sender)


def main(address: str, names: str, host: str) -> None:
    """Serve until stdin ends, from its first byte on: when the addresses are there."""
    os.write(1, b"here\n")
    os.read(0, 1)
    listener, datagrams = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for bound, place in ((listener, (address, 80)), (datagrams, (names, 53))):
        bound.bind(place)
    listener.listen()
    for work in (lambda: serve_prices(listener), lambda: serve_names(datagrams, host, address)):
        threading.Thread(target=work, daemon=True).start()
    os.write(1, b"ready\n")
    os.read(0, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
