"""Servers of the small internet: DNS with answers that change, HTTP, HTTPS, and one that speaks first."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import ssl
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import cast

from aiohttp import web

from tests.helpers.network.world import DNS

MAIL_PORT = 587
_TYPES = {1: "A", 28: "AAAA"}


class NameServer(asyncio.DatagramProtocol):
    """Answers from a table; what is asked for again gets the next of its answers, and the last one from then on."""

    def __init__(self, directory: Path) -> None:
        self._zone: dict[str, dict[str, list[list[str]]]] = json.loads((directory / "zone.json").read_text())
        self._log = (directory / "queries").open("a", buffering=1)
        self._asked: Counter[tuple[str, str]] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        name, (number,) = ".".join(labels).lower(), struct.unpack_from("!H", data, at + 1)
        kind = _TYPES.get(number, str(number))
        self._log.write(f"{name} {kind}\n")
        steps = self._zone.get(name, {}).get(kind, [])
        found = steps[min(self._asked[name, kind], len(steps) - 1)] if steps else []
        self._asked[name, kind] += 1
        code = 0 if name in self._zone else 3
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(found), 0, 0)
        answers = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", number, 1, 0, len(packed)) + packed
            for packed in (ipaddress.ip_address(each).packed for each in found)
        )
        self._transport.sendto(head + data[12 : at + 5] + answers, address)


async def describe(request: web.Request) -> web.Response:
    """Return what was asked for, and at which address."""
    assert request.transport is not None
    here = request.transport.get_extra_info("sockname")
    body = await request.read()
    fields = [[name, value] for name, value in request.headers.items()]
    return web.json_response(
        {"method": request.method, "path": request.path_qs, "fields": fields, "body": body.decode(), "here": here[0]}
    )


async def redirect(request: web.Request) -> web.Response:
    """Send the client elsewhere."""
    raise web.HTTPFound(request.query["to"])


async def send_bytes(request: web.Request) -> web.StreamResponse:
    """Return as many bytes as were asked for, in chunks."""
    response = web.StreamResponse()
    await response.prepare(request)
    left = int(request.query["count"])
    while left > 0:
        await response.write(b"x" * min(left, 65_536))
        left -= 65_536
    return response


async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet, and repeat what comes."""
    port = writer.get_extra_info("sockname")[1]
    writer.write(b"220 mail.example.org\r\n" if port == MAIL_PORT else b"SSH-2.0-test\r\n")
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write(b"bye\n")
    writer.close()


async def main(directory: Path) -> None:
    """Serve until the process is killed."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: NameServer(directory), local_addr=(DNS, 53))
    application = web.Application(client_max_size=2**28)
    application.router.add_get("/redirect", redirect)
    application.router.add_get("/bytes", send_bytes)
    application.router.add_static("/files", directory / "files")
    application.router.add_route("*", "/{path:.*}", describe)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "server.pem")
    # Only P-256: a client that offers a share of another group is asked for a second ClientHello.
    context.set_ecdh_curve("prime256v1")
    for address in ("0.0.0.0", "::"):
        for port, encryption in ((80, None), (8080, None), (443, context), (8443, context)):
            await web.TCPSite(runner, address, port, ssl_context=encryption, reuse_port=True).start()
        for port in (22, 25, MAIL_PORT):
            await asyncio.start_server(speak_first, address, port)
    os.write(1, b"ready\n")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
