"""The live flow: server-sent events, as the HTML standard has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from hive_agent.web.feed import Dropped, Feed
from hive_agent.web.refusal import PageError

MOST_READERS = 256
SESSION_SECONDS = 600.0
"""After so long a stream ends, and the browser comes back by itself: with a session that has to be good then, too."""
_RETRY = b"retry: 1000\n\n"


async def stream(
    request: web.Request, feed: Feed, now: Callable[[], bytes], seconds: float = SESSION_SECONDS
) -> web.StreamResponse:
    """Write events until the reader leaves, is dropped, or the feed is closed. Raises PageError `too_many_readers`."""
    if feed.readers >= MOST_READERS:
        raise PageError(
            "too_many_readers", f"{MOST_READERS} windows watch this agent already", "close some of them", status=503
        )
    after = request.headers.get("Last-Event-ID") or request.query.get("after")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    with feed.reader(after, now, on_drop=lambda: _hang_up(request)) as reader, suppress(ConnectionError, Dropped):
        await response.prepare(request)
        await response.write(_RETRY)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (events := await reader.take()) is not None:
                    await response.write(events)
    return response


def _hang_up(request: web.Request) -> None:
    """It does not read: what is still to be written is given up."""
    if request.transport is not None:
        request.transport.abort()
