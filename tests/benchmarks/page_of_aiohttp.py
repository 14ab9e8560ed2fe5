"""The reference of the page: every event is written to one response after another. No door, no resume, nobody dropped.

`python -m tests.benchmarks.page_of_aiohttp`; a round of 0 tells how to watch, as page_of_agent does.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from tests.benchmarks.client import serve
from tests.benchmarks.page_publishing import TEXT, publish_evenly


async def main() -> None:
    """Serve, and write as many events as each round asks for."""
    readers: list[web.StreamResponse] = []
    entries = 0

    async def watch(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        readers.append(response)
        await asyncio.Event().wait()
        return response

    async def publish(due: int) -> None:
        nonlocal entries
        entries += 1
        data = json.dumps({"turn": 1, "attempt": 1, "n": entries, "at": due, "kind": "text", "text": TEXT})
        frame = f"id: {entries}\nevent: entry\ndata: {data}\n\n".encode()
        for reader in readers:
            await reader.write(frame)

    app = web.Application()
    app.router.add_get("/events", watch)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    async def carry_out(count: int) -> list[str] | None:
        if count == 0:
            return [str(port), f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"]
        await publish_evenly(count, publish)
        return None

    await serve(carry_out)


if __name__ == "__main__":
    asyncio.run(main())
