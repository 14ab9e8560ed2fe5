"""The page once somebody looks at it: all that answers, with one place for sessions, whichever way callers come."""

from __future__ import annotations

import logging

from aiohttp import web

from hive_agent.interfaces import Controls
from hive_agent.web.actions import Actions
from hive_agent.web.app import Page, build
from hive_agent.web.door import Door
from hive_agent.web.feed import Feed
from hive_agent.web.hive import Hive
from hive_agent.web.reading import Reading
from hive_agent.web.sessions import Sessions
from hive_core.protocol import Profile

_SHUTDOWN_SECONDS = 2.0

# What aiohttp logs here is bytes of callers that are no HTTP, a traceback each time; the page logs its own mistakes.
_garbage = logging.getLogger("hive_agent.web.garbage")
_garbage.disabled = True


def open_page(controls: Controls, feed: Feed, client: Hive, profile: Profile) -> Page:
    """The page of one harness."""
    sessions = Sessions(client, profile.name)
    return Page(
        profile.name,
        profile.kind == "manager",
        feed,
        sessions,
        Reading(controls, client),
        Actions(controls, client, sessions),
    )


async def open_runner(page: Page, port: int | None) -> web.BaseRunner:
    """What answers at one listener: the socket (None), or the port."""
    runner = web.AppRunner(
        build(page, Door(page.agent, port)),
        handle_signals=False,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        logger=_garbage,
    )
    await runner.setup()
    return runner
