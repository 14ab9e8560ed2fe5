"""Applications of aiohttp on a free port of loopback, for as long as a test needs them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def serving(app: web.Application, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve `app`, with TLS if there is a `context`, and give the port. Who hangs up has the request cancelled."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()
