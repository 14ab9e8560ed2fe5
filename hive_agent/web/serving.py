"""The page as part of a harness: it listens as long as the harness runs, and never keeps that from running."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from hive_agent.environment import AgentEnvironment
from hive_agent.interfaces import Controls
from hive_agent.web import listening
from hive_agent.web.feed import Feed
from hive_agent.web.hive import Hive
from hive_core.protocol import Profile

if TYPE_CHECKING:  # loaded when somebody looks at the page
    from aiohttp import web

    from hive_agent.web.app import Page

log = logging.getLogger(__name__)

PORT = "HIVE_AGENT_PORT"


@asynccontextmanager
async def serve_page(
    controls: Controls, feed: Feed, client: Hive, environment: AgentEnvironment, profile: Profile
) -> AsyncIterator[None]:
    """Serve the page on the agent's view socket and, if HIVE_AGENT_PORT is set, on that port of 127.0.0.1.

    The daemon lends both. Where it does not the log says so; the agent works without its page. Ends the feed when it
    is left.
    """
    opening = _Opening(controls, feed, client, profile)
    async with AsyncExitStack() as stack:
        door = environment.run / "view.sock"
        await stack.enter_async_context(listening.on_view(partial(opening.runner, None), door, profile.name))
        port = _port(environment.variables.get(PORT, ""))
        if port is not None:
            door = environment.run / "page.sock"
            await stack.enter_async_context(listening.on_port(partial(opening.runner, port), door, port))
        stack.callback(feed.close)
        yield


class _Opening:
    """Opens the page at the first call, once for all ways to it."""

    def __init__(self, controls: Controls, feed: Feed, client: Hive, profile: Profile) -> None:
        self._made_from = (controls, feed, client, profile)
        self._lock = asyncio.Lock()
        self._page: Page | None = None

    async def runner(self, port: int | None) -> web.BaseRunner:
        async with self._lock:
            await asyncio.to_thread(import_module, "hive_agent.web.opened")  # a turn goes on meanwhile
            from hive_agent.web import opened  # noqa: PLC0415 (the server alone is 3 MB)

            if self._page is None:
                self._page = opened.open_page(*self._made_from)
        return await opened.open_runner(self._page, port)


def _port(text: str) -> int | None:
    """The port that the text names; None if it is empty or 0."""
    if not text or text == "0":
        return None
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65_536:
        return int(text)
    log.warning("%s is no port: the page listens on its view socket only", PORT)
    return None
