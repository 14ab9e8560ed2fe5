"""Who is on the page: tickets become sessions, and a session is looked up in the daemon, not at every click.

The browser keeps a session in two halves. One is the cookie: scripts cannot read it, but browsers send it to every port
of the host, so also to the page of another agent. The other, the key, lies in the storage of this origin, which ends
at the port, and comes along in a header. Neither is of use without the other.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from hive_agent.client.connection import CoreError
from hive_agent.web.hive import Hive
from hive_agent.web.refusal import PageError, from_hive
from hive_core.protocol import PageSession

CHECKED_SECONDS = 60.0
"""How long a session is good without asking the daemon again."""
HIVE_SECONDS = 10.0
"""How long a person waits for a daemon that is away, before the page says so."""
_REMEMBERED = 100
_ASKED_AT_ONCE = 4
"""Anybody on the machine may knock with what is no session, and the daemon gives the agent 32 connections for all that
it does: knocking must not take them from its work.
"""
_SHORTEST = 32

T = TypeVar("T")


class Halves(NamedTuple):
    """A session as the browser has it."""

    cookie: str
    key: str


def split(session: str) -> Halves:
    """Each half is of at least 16 characters. Raises ValueError if the session is shorter than 32."""
    if len(session) < _SHORTEST:
        raise ValueError(f"a session of {len(session)} characters is too short to be split")
    middle = len(session) // 2
    return Halves(session[:middle], session[middle:])


async def ask_hive(call: Awaitable[T]) -> T:
    """What the daemon answers. Raises PageError if it refuses, or does not answer in time."""
    try:
        async with asyncio.timeout(HIVE_SECONDS):
            return await call
    except TimeoutError:
        raise PageError(
            "unreachable", "hive-c0re does not answer", "try again when it is running", status=503
        ) from None
    except CoreError as error:
        raise from_hive(error) from None


class Sessions:
    """The sessions of one agent's page; remembers the last 100 that were good."""

    def __init__(self, hive: Hive, agent: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._hive = hive
        self._agent = agent
        self._clock = clock
        self._good: OrderedDict[str, tuple[PageSession, float]] = OrderedDict()
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def enter(self, ticket: str) -> PageSession:
        """Exchange a one-time ticket. Raises PageError `bad_ticket` if it is not good (any more)."""
        session = await ask_hive(self._in_turn(lambda: self._hive.page_enter(ticket)))
        self._remember(session)
        return session

    async def check(self, cookie: str | None, key: str | None) -> PageSession:
        """The session of these halves. Raises PageError `no_session`."""
        if not cookie or not key or len(cookie) + len(key) > 128:
            raise self.none()
        token = cookie + key
        session, until = self._good.get(token, (None, 0.0))
        if session is not None and self._clock() < until:
            return session
        self._good.pop(token, None)
        try:
            session = await ask_hive(self._in_turn(lambda: self._hive.page_check(token)))
        except PageError as error:
            if error.body.code in {"bad_session", "invalid_request"}:
                raise self.none() from None
            raise
        self._remember(session)
        return session

    async def _in_turn(self, call: Callable[[], Awaitable[PageSession]]) -> PageSession:
        async with self._asking:
            return await call()

    def forget(self, session: str) -> None:
        """Ask the daemon about it the next time."""
        self._good.pop(session, None)

    def _remember(self, session: PageSession) -> None:
        until = self._clock() + min(CHECKED_SECONDS, session.expires_in)
        self._good[session.session] = (session, until)
        while len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)

    def none(self) -> PageError:
        """The refusal of somebody without a session."""
        return PageError(
            "no_session",
            "this browser is not signed in, or not any more",
            f"on the host, run: hive-c0re open {self._agent}",
            status=401,
        )
