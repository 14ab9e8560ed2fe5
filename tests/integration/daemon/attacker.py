"""A program of one agent that asks as much of the daemon as it can: `python -m ...attacker SOCKET KIND [ARGUMENT]`.

It yields the processor to everything else, as what is measured is what the daemon does for it. It prints a line when
its attack is under way, and goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

CONNECTIONS = 30
LARGE_CONNECTIONS = 4
"""For requests of 2 MB: with more of them the daemon would close the connections before the requests have arrived."""
PATIENCE = 60.0


def request(method: str, path: str, content: object = None) -> bytes:
    body = b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: hive\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """Send a request and read its whole answer; returns the status line."""
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    length = head[head.index(b"Content-Length: ") + 16 :].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return head.partition(b"\r\n")[0]


async def ask_for_ever(socket: str, requests: list[bytes], under_way: asyncio.Event) -> None:
    """Ask the same things again and again, on a new connection whenever the daemon closes one."""
    while True:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_unix_connection(socket)
            while True:
                for data in requests:
                    await ask(reader, writer, data)
                    under_way.set()


async def half_send_for_ever(socket: str, under_way: asyncio.Event) -> None:
    """Send most of a request, wait until the daemon closes the connection, and begin anew."""
    data = request("POST", "/v1/messages", {"to": "good", "body": "x" * 1_900_000})[:-10]
    while True:
        with suppress(ConnectionError):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(data)
            under_way.set()
            await reader.read()
            writer.close()


async def main(socket: str, kind: str, argument: str) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    under_way = asyncio.Event()
    if kind == "half-sent":
        work = [half_send_for_ever(socket, under_way) for _ in range(2 * CONNECTIONS)]
    else:
        paths = {
            "diffs": [f"/v1/proposals/bad/{number}" for number in argument.split(",")],
            "lists": ["/v1/proposals?state=all&limit=1000", "/v1/inbox?limit=1000"],
            "logs": ["/v1/logs?lines=10000"],
        }
        if kind in paths:
            requests = [request("GET", path) for path in paths[kind]]
        elif kind == "sends":
            requests = [
                request("POST", "/v1/messages", {"to": to, "body": "x" * 2_000}) for to in ("hm1nd", "operator")
            ]
        elif kind == "malformed":
            keys = ",".join(f'"{number:x}":1' for number in range(180_000))
            quotes = '\\"' * 900_000
            requests = [
                request("POST", "/v1/messages", f"{{{keys}}}".encode()),
                request("POST", "/v1/messages", f'{{"to":"{quotes}{"," * 200}"}}'.encode()),
            ]
        elif kind == "many ids":
            ids = ",".join(["1"] * 120_000), ",".join(["1"] * 10_000), ",".join(['"a"'] * 10_000)
            requests = [
                request("POST", "/v1/messages/ack", f'{{"instance":"instance-1","ids":[{each}]}}'.encode())
                for each in ids
            ]
        else:
            commits = argument.split(",")
            requests = [request("POST", "/v1/proposals", {"commit": commit, "note": "x"}) for commit in commits]
        connections = LARGE_CONNECTIONS if kind == "malformed" else CONNECTIONS
        work = [ask_for_ever(socket, requests, under_way) for _ in range(connections)]
    tasks = [asyncio.create_task(each) for each in work]
    async with asyncio.timeout(PATIENCE):
        await under_way.wait()
    sys.stdout.write("under way\n")
    sys.stdout.flush()
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(str(Path(sys.argv[1])), sys.argv[2], "".join(sys.argv[3:])))
