"""Servers behind the proxies: one that answers and waits, one that sends without end, one that speaks real TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import threading
from pathlib import Path

from tests.helpers.network.servers_program import NameServer
from tests.helpers.network.world import DNS, SERVER_4, SERVER_4_STREAM, SERVER_4_TLS

SERVER_HELLO = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(116)
"""First bytes that a proxy sees of a server; nobody reads more of it."""
_PIECE = bytes(1024 * 1024)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first message, and wait for the end."""
    if await reader.read(4_096):
        writer.write(SERVER_HELLO)
        await reader.read()
    writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back."""
    while data := await reader.read(4_096):
        writer.write(data)
    writer.close()


def send_without_end(listener: socket.socket) -> None:
    """Send to one client at a time, until it hangs up."""
    while True:
        client, _ = listener.accept()
        with client:
            client.recv(4_096)
            client.sendall(SERVER_HELLO)
            try:
                while True:
                    client.sendall(_PIECE)
            except OSError:
                pass


async def main(directory: Path) -> None:
    """Serve until the process is killed."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: NameServer(directory), local_addr=(DNS, 53))
    await asyncio.start_server(answer, SERVER_4, 443, backlog=2_048)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "server.pem")
    await asyncio.start_server(echo, SERVER_4_TLS, 443, ssl=context)
    listener = socket.create_server((SERVER_4_STREAM, 443))
    threading.Thread(target=send_without_end, args=(listener,), daemon=True).start()
    os.write(1, b"ready\n")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
