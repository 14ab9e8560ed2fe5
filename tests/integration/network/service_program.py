"""Be a service of the host, or a program in an agent that visits one.

serve HOST:PORT...   Speak first: greet each caller, send back what comes, and tell how much that was after its end.
visit PORT           Send lines from stdin to a port of the loopback, and print what comes. The end of stdin closes the
                     sending end. At last the end of the connection is printed: `end`, `reset` or `refused`.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection."""
    count = 0
    writer.write(b"hello\n")
    try:
        while data := await reader.read(65_536):
            count += len(data)
            writer.write(data)
            await writer.drain()
        writer.write(b"%d bytes\n" % count)
        await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(addresses: list[str]) -> None:
    """Serve until the process is ended."""
    for address in addresses:
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        await asyncio.start_server(answer, host.strip("[]"), int(port), family=family)
    os.write(1, b"ready\n")
    await asyncio.Event().wait()


def visit(port: int) -> str:
    """Copy in both directions, and return how the connection ended."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:  # Seen so soon that it counts as the outcome of the connect.
        return "reset"
    with connection:
        sources = [connection.fileno(), 0]
        while True:
            readable, _, _ = select.select(sources, [], [])
            if connection.fileno() in readable:
                try:
                    data = connection.recv(65_536)
                except ConnectionResetError:
                    return "reset"
                if not data:
                    return "end"
                os.write(1, data)
            elif data := os.read(0, 65_536):
                connection.sendall(data)
            else:
                sources.remove(0)
                connection.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2:]))
    else:
        os.write(1, f"{visit(int(sys.argv[2]))}\n".encode())
