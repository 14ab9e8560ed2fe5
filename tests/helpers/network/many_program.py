"""Send the requests of a file, one connection each, and print the answers, both as lists in JSON of Latin-1."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path


def send(data: bytes) -> bytes:
    """Return all that the proxy answers to a request."""
    answer = b""
    with socket.create_connection(("127.0.0.1", 3128), timeout=30) as connection:
        with suppress(OSError):  # It may stop to read.
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65_536):
            answer += piece
    return answer


if __name__ == "__main__":
    requests = json.loads(Path(sys.argv[1]).read_text())
    os.write(1, json.dumps([send(each.encode("latin-1")).decode("latin-1") for each in requests]).encode())
