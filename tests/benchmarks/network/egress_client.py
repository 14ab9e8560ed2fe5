"""Use a proxy on a port of the loopback, or none (port 0), and print what was measured.

connects COUNT    new connections, 32 at a time: seconds for all
stream SECONDS    one connection on which the server sends without end: bytes
latency COUNT     round trips over one connection with TLS: median in milliseconds
idle COUNT        so many connections, held until stdin ends
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import statistics
import sys
import time
from contextlib import suppress

from tests.helpers.network.world import SERVER_4_TLS

_AT_ONCE = 32


def hello(host: str) -> bytes:
    """Return a ClientHello as OpenSSL sends it."""
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host).do_handshake()
    return sent.read()


async def begin(port: int, host: str, data: bytes) -> socket.socket:
    """Return a connection on which the server has answered the ClientHello."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.sock_sendall(connection, f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    answer = await loop.sock_recv(connection, 4_096)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"refused: {answer!r}")
    await loop.sock_sendall(connection, data)
    received = 0
    while received < 127:
        received += len(await loop.sock_recv(connection, 4_096))
    return connection


async def connects(port: int, count: int) -> float:
    """Return the seconds that new connections have taken."""
    data, left = hello("short.example.org"), count

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            (await begin(port, "short.example.org", data)).close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    return time.perf_counter() - started


async def stream(port: int, seconds: int) -> float:
    """Return the bytes that one connection has carried."""
    connection = await begin(port, "stream.example.org", hello("stream.example.org"))
    connection.setblocking(True)
    buffer, received, end = bytearray(1024 * 1024), 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        received += connection.recv_into(buffer)
    connection.close()
    return received


def latency(port: int, count: int) -> float:
    """Return the median time of a round trip, in milliseconds."""
    connection = socket.create_connection(("127.0.0.1", port) if port else (SERVER_4_TLS, 443))
    if port:
        connection.sendall(b"CONNECT tls.example.org:443 HTTP/1.1\r\nHost: tls.example.org:443\r\n\r\n")
        connection.recv(4_096)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with ssl.create_default_context().wrap_socket(connection, server_hostname="tls.example.org") as encrypted:
        times = []
        for _ in range(count):
            started = time.perf_counter()
            encrypted.send(b"x")
            encrypted.recv(1)
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1_000


async def idle(port: int, count: int) -> None:
    """Hold connections until stdin ends."""
    data = hello("short.example.org")
    kept = []
    for _ in range(count // 10):
        kept += await asyncio.gather(*(begin(port, "short.example.org", data) for _ in range(10)))
    os.write(1, b"0\n")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main(mode: str, port: int, count: int) -> None:
    """Measure one thing."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (8_192, 8_192))
    match mode:
        case "connects":
            result = asyncio.run(connects(port, count))
        case "stream":
            result = asyncio.run(stream(port, count))
        case "latency":
            result = latency(port, count)
        case _:
            asyncio.run(idle(port, count))
            return
    os.write(1, f"{result}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
