"""The page as part of a harness: it listens as long as the harness runs, and never keeps that from running."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from hive_agent.controls import Controls
from hive_agent.environment import AgentEnvironment
from hive_agent.web import listening
from hive_agent.web.actions import Actions
from hive_agent.web.app import Page, build
from hive_agent.web.door import Door
from hive_agent.web.feed import Feed
from hive_agent.web.hive import Hive
from hive_agent.web.reading import Reading
from hive_agent.web.sessions import Sessions
from hive_core.protocol import Profile

log = logging.getLogger(__name__)

PORT = "HIVE_AGENT_PORT"
_SHUTDOWN_SECONDS = 2.0

# What aiohttp logs here is bytes of callers that are no HTTP, a traceback each time; the page logs its own mistakes.
_garbage = logging.getLogger("hive_agent.web.garbage")
_garbage.disabled = True


@asynccontextmanager
async def serve_page(
    controls: Controls, feed: Feed, client: Hive, environment: AgentEnvironment, profile: Profile
) -> AsyncIterator[None]:
    """Serve the page on `<run>/own/web.sock` and, if HIVE_AGENT_PORT is set, on that port of 127.0.0.1.

    Where it cannot listen the log says so; the agent works without its page. Ends the feed when it is left.
    """
    sessions = Sessions(client, profile.name)
    page = Page(
        profile.name,
        profile.kind == "manager",
        feed,
        sessions,
        Reading(controls, client),
        Actions(controls, client, sessions),
    )
    async with AsyncExitStack() as stack:
        path = environment.run / "own" / "web.sock"
        try:
            runner = await _runner(stack, page, None)
            await stack.enter_async_context(listening.on_socket(runner, path))
        except OSError as error:
            log.warning("no page on %s: %s", path, error.strerror or error)
        port = _port(environment.variables.get(PORT, ""))
        if port is not None:
            try:
                runner = await _runner(stack, page, port)
                await stack.enter_async_context(listening.on_port(runner, port))
                log.info("the page is at http://127.0.0.1:%d", port)
            except OSError as error:
                log.warning("no page on port %d: %s", port, error.strerror or error)
        stack.callback(feed.close)
        yield


async def _runner(stack: AsyncExitStack, page: Page, port: int | None) -> web.BaseRunner:
    runner = web.AppRunner(
        build(page, Door(page.agent, port)),
        handle_signals=False,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        logger=_garbage,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


def _port(text: str) -> int | None:
    """The port that the text names; None if it is empty or 0."""
    if not text or text == "0":
        return None
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65_536:
        return int(text)
    log.warning("%s is no port: the page listens on its socket only", PORT)
    return None
