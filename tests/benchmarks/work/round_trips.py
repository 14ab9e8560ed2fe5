"""Round trips through a forwarded port, beside the same to the port itself."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.benchmarks.bench_directory import ROOT

ROUNDS = 2_000
CONNECTIONS = 300

_LOOPBACK = "127.0.0.1"
_REQUEST = b"x" * 64
_PATIENCE = 60.0
_SERVER = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.setsockopt(6, 1, 1)
        while data := self.request.recv(4096):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    daemon_threads = True
server = Server(("127.0.0.1", 0), Echo)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

Samples = tuple[list[float], list[float]]
"""Milliseconds through the forwarded port, and directly."""


def measure(cli: list[str], agent: str) -> dict[str, Samples]:
    """Measure a program of the agent that sends back what it gets; rounds take turns."""
    with _program([*cli, "exec", agent, "--", sys.executable, "-c", _SERVER]) as told:
        port = int(told)
        with _program([*cli, "port-forward", agent, f"{port}:0"]) as said:
            found = re.search(r":([0-9]+) is port", said)
            assert found is not None, said
            return _measure((int(found[1]), port))


def _measure(ports: tuple[int, int]) -> dict[str, Samples]:
    round_trips: Samples = ([], [])
    connections: Samples = ([], [])
    with _connect(ports[0]) as forwarded, _connect(ports[1]) as direct:
        for _ in range(ROUNDS):
            for connection, samples in zip((forwarded, direct), round_trips, strict=True):
                started = time.perf_counter()
                _round_trip(connection)
                samples.append(1_000 * (time.perf_counter() - started))
    for _ in range(CONNECTIONS):
        for port, samples in zip(ports, connections, strict=True):
            started = time.perf_counter()
            with _connect(port) as connection:
                _round_trip(connection)
                samples.append(1_000 * (time.perf_counter() - started))
    return {"round trip of 64 bytes": round_trips, "connection and a round trip": connections}


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection((_LOOPBACK, port), _PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _round_trip(connection: socket.socket) -> None:
    connection.sendall(_REQUEST)
    left = len(_REQUEST)
    while left:
        arrived = len(connection.recv(left))
        if not arrived:
            raise RuntimeError("the connection has ended")
        left -= arrived


@contextmanager
def _program(command: list[str]) -> Iterator[str]:
    """Run a program; yields its first line, which it prints when it is ready."""
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{' '.join(command[-4:])} ended with exit code {process.wait()}, see above")
            yield line
        finally:
            process.kill()
