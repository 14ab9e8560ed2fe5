"""Who may look at an agent's page: one-time tickets, and the sessions that they become. In memory only.

An agent serves its own page, so a session is no secret from it; it is good for that agent alone.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from hive_core.errors import HiveError, forbidden

TICKET_SECONDS = 120.0
SESSION_SECONDS = 12 * 3_600.0
_MOST = 20
"""Tickets, and sessions, of one agent; the oldest gives way."""
_BYTES = 32
_TYPED, _TYPED_SECONDS = 60, 60.0
"""So much may be typed on an agent's page in so long. No person types more; the agent itself could, whose page has
the session, and what is typed is kept for ever in the audit table.
"""


@dataclass(frozen=True)
class Pass:
    """A ticket or a session: `secret` shows that whoever has it is `user`, until `ends`."""

    secret: str
    user: str
    ends: float


class Pages:
    """Tickets and sessions by agent. They end with the daemon."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives the time in seconds."""
        self._clock = clock
        self._tickets: defaultdict[str, list[Pass]] = defaultdict(list)
        self._sessions: defaultdict[str, list[Pass]] = defaultdict(list)
        self._typed: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_TYPED))

    def forget(self, agent: str) -> None:
        """The agent is gone; nobody is let in to another of its name."""
        self._tickets.pop(agent, None)
        self._sessions.pop(agent, None)
        self._typed.pop(agent, None)

    def ticket(self, agent: str, user: str) -> Pass:
        """A new ticket for the agent's page."""
        return self._issue(self._tickets[agent], user, TICKET_SECONDS)

    def enter(self, agent: str, ticket: str) -> Pass:
        """Use up a ticket: a session for whoever it was made for. Raises `bad_ticket`."""
        found = self._find(self._tickets[agent], ticket)
        if found is None:
            hint = f"print a new link: hive-c0re open {agent}"
            raise forbidden("bad_ticket", "the ticket was used already, or is too old, or is none", hint)
        self._tickets[agent].remove(found)
        return self._issue(self._sessions[agent], found.user, SESSION_SECONDS)

    def check(self, agent: str, session: str) -> Pass:
        """A session that is still good. Raises `bad_session`."""
        found = self._find(self._sessions[agent], session)
        if found is None:
            hint = f"print a new link: hive-c0re open {agent}"
            raise forbidden("bad_session", "the session is over, or is none", hint)
        return found

    def typing(self, agent: str, session: str) -> Pass:
        """A session that is still good, in which something was typed. Raises `bad_session`, `too_much_typed`."""
        found, typed, now = self.check(agent, session), self._typed[agent], self._clock()
        if len(typed) == _TYPED and typed[0] > now - _TYPED_SECONDS:
            text = f"more than {_TYPED} messages and answers within {_TYPED_SECONDS:.0f} s on the page of {agent}"
            raise HiveError("too_much_typed", text, hint="wait a moment", status=429)
        typed.append(now)
        return found

    def remaining(self, entry: Pass) -> float:
        """Seconds until it ends."""
        return max(0.0, entry.ends - self._clock())

    def _issue(self, entries: list[Pass], user: str, seconds: float) -> Pass:
        new = Pass(secrets.token_urlsafe(_BYTES), user, self._clock() + seconds)
        entries.append(new)
        del entries[:-_MOST]
        return new

    def _find(self, entries: list[Pass], secret: str) -> Pass | None:
        # All are compared, each in the same time whatever it holds.
        given, now = secret.encode(), self._clock()
        fitting = [entry for entry in entries if hmac.compare_digest(entry.secret.encode(), given)]
        return next((entry for entry in fitting if entry.ends > now), None)
