"""An agent's page, with fakes for its harness and daemon: `python -m tests.benchmarks.page_of_agent DIRECTORY`.

A round of 0 tells how to watch: the port, and the request.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from tests.benchmarks.client import serve
from tests.benchmarks.page_publishing import TEXT, publish_evenly
from tests.unit.agent.web.fake_browser import browsing
from tests.unit.agent.web.fakes import served


async def main(directory: Path) -> None:
    """Serve the page, and publish as many entries of a turn as each round asks for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with served(directory, port) as page, browsing(page) as browser:
        entries = 0

        async def publish(due: int) -> None:
            nonlocal entries
            entries += 1
            page.feed.publish("entry", {"turn": 1, "attempt": 1, "n": entries, "at": due, "kind": "text", "text": TEXT})

        async def carry_out(count: int) -> list[str] | None:
            if count == 0:
                head = f"Host: 127.0.0.1:{port}\r\nCookie: {browser.cookie}"
                return [str(port), f"GET /events?key={browser.key} HTTP/1.1\r\n{head}\r\n\r\n"]
            await publish_evenly(count, publish)
            return None

        await serve(carry_out)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
