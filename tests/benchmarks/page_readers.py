"""Many who watch one page: `python -m tests.benchmarks.page_readers COUNT PORT REQUEST`."""

from __future__ import annotations

import asyncio
import re
import sys
import time

from tests.benchmarks.client import serve

_DUE = re.compile(rb'"at": ?(\d+)')


class PageReader(asyncio.Protocol):
    """One reader. It notes in `late` how many milliseconds after its time it had each event."""

    def __init__(self, request: bytes, late: list[float]) -> None:
        self._request = request
        self._late = late
        self._rest = b""
        self.open = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        if not self.open.done():
            assert data.startswith(b"HTTP/1.1 200"), data[:500]
            self.open.set_result(None)
        for event in events:
            if (due := _DUE.search(event)) is not None:
                self._late.append((now - int(due[1])) / 1e6)

    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(f"a reader was dropped: {exc}")


async def main(count: int, port: int, request: bytes) -> None:
    """Each round: wait until every reader has that many events; the milliseconds of all."""
    late: list[float] = []
    loop = asyncio.get_running_loop()
    for _ in range(count):
        _, reader = await loop.create_connection(lambda: PageReader(request, late), "127.0.0.1", port)
        await reader.open

    async def carry_out(events: int) -> list[float]:
        async with asyncio.timeout(120):
            while len(late) < count * events:
                await asyncio.sleep(0.05)
        found = late[:]
        late.clear()
        return found

    await serve(carry_out)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()))
