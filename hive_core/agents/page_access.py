"""Tickets and sessions for agents' pages, in memory and in the database.

Tickets end with the daemon; sessions outlive it, see page_store.

An agent serves its own page, so a session is no secret from it; it is good for that agent alone.

Only digests are kept: who reads the database is not let in by it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hive_core.errors import HiveError, forbidden
from hive_core.infra.database.database import milliseconds

TICKET_SECONDS = 120.0
SESSION_SECONDS = 12 * 3_600.0
MOST = 20
"""Tickets, and sessions, of one agent; the oldest gives way."""
_BYTES = 32
_TYPED, _TYPED_SECONDS = 60, 60.0
"""So much may be typed on an agent's page in so long. No person types more; the agent itself could, whose page has
the session, and what is typed is kept for ever in the audit table.
"""


@dataclass(frozen=True)
class PageToken:
    """A ticket or a session: `secret` shows that whoever has it is `user`, until `ends`."""

    secret: str
    user: str
    ends: float


@dataclass(frozen=True)
class StoredToken:
    """What is remembered of a pass: not the secret itself, only its digest."""

    digest: str
    user: str
    ends: float


def digest(secret: str) -> str:
    """Of 32 random bytes: it needs no salt, and cannot be turned back."""
    return hashlib.sha256(secret.encode()).hexdigest()


class PageAccess:
    """Tickets and sessions by agent."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives the time in seconds since 1970."""
        self._clock = clock
        self._tickets: defaultdict[str, list[StoredToken]] = defaultdict(list)
        self._sessions: defaultdict[str, list[StoredToken]] = defaultdict(list)
        self._typed: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_TYPED))

    def forget(self, agent: str) -> None:
        """The agent is gone; nobody is let in to another of its name."""
        self._tickets.pop(agent, None)
        self._sessions.pop(agent, None)
        self._typed.pop(agent, None)

    def restore(self, agent: str, session: StoredToken) -> None:
        """A session of an earlier daemon's."""
        self._sessions[agent].append(session)

    def ticket(self, agent: str, user: str) -> PageToken:
        """A new ticket for the agent's page."""
        return self._issue(self._tickets[agent], user, TICKET_SECONDS)

    def redeem_ticket(self, agent: str, ticket: str) -> PageToken:
        """Use up a ticket: a session for whoever it was made for. Raises `bad_ticket`."""
        found = self._find(self._tickets[agent], ticket)
        if found is None:
            hint = f"print a new link: hive-c0re open {agent}"
            raise forbidden("bad_ticket", "the ticket was used already, or is too old, or is none", hint)
        self._tickets[agent] = [entry for entry in self._tickets[agent] if entry.digest != digest(found.secret)]
        return self._issue(self._sessions[agent], found.user, SESSION_SECONDS)

    def check_session(self, agent: str, session: str) -> PageToken:
        """A session that is still good. Raises `bad_session`."""
        found = self._find(self._sessions[agent], session)
        if found is None:
            hint = f"print a new link: hive-c0re open {agent}"
            raise forbidden("bad_session", "the session is over, or is none", hint)
        return found

    def refresh_session(self, agent: str, session: str) -> PageToken:
        """A session that is still good, in which something was typed. Raises `bad_session`, `too_much_typed`."""
        found, typed, now = self.check_session(agent, session), self._typed[agent], self._clock()
        # A clock that was set back is no reason to refuse anything until it is where it was.
        if len(typed) == _TYPED and 0.0 <= now - typed[0] < _TYPED_SECONDS:
            text = f"more than {_TYPED} messages and answers within {_TYPED_SECONDS:.0f} s on the page of {agent}"
            raise HiveError("too_much_typed", text, hint="wait a moment", status=429)
        typed.append(now)
        return found

    def remaining(self, entry: PageToken) -> float:
        """Seconds until it ends."""
        return max(0.0, entry.ends - self._clock())

    def _issue(self, entries: list[StoredToken], user: str, seconds: float) -> PageToken:
        new = PageToken(secrets.token_urlsafe(_BYTES), user, self._clock() + seconds)
        entries.append(StoredToken(digest(new.secret), user, new.ends))
        del entries[:-MOST]
        return new

    def _find(self, entries: list[StoredToken], secret: str) -> PageToken | None:
        # All are compared, each in the same time whatever it holds.
        given, now = digest(secret), self._clock()
        fitting = [entry for entry in entries if hmac.compare_digest(entry.digest, given)]
        return next((PageToken(secret, entry.user, entry.ends) for entry in fitting if entry.ends > now), None)


def add_session(db: sqlite3.Connection, agent: str, entry: PageToken) -> None:
    """Keep a session; those that are over, and the oldest of too many, are removed."""
    db.execute("DELETE FROM page_sessions WHERE ends_at <= ?", (milliseconds(),))
    # Not for an agent that was destroyed meanwhile: the next one of its name would let them in.
    db.execute(
        "INSERT INTO page_sessions (digest, agent, user, ends_at) SELECT ?, name, ?, ? FROM agents WHERE name = ?",
        (digest(entry.secret), entry.user, int(entry.ends * 1_000), agent),
    )
    db.execute(
        "DELETE FROM page_sessions WHERE agent = ?1 AND digest NOT IN "
        "(SELECT digest FROM page_sessions WHERE agent = ?1 ORDER BY rowid DESC LIMIT ?2)",
        (agent, MOST),
    )


def forget_sessions(db: sqlite3.Connection, agent: str) -> None:
    """The agent is gone."""
    db.execute("DELETE FROM page_sessions WHERE agent = ?", (agent,))


def load_sessions(db: sqlite3.Connection) -> Sequence[tuple[str, StoredToken]]:
    """The sessions that are not over, with their agents, the oldest first."""
    query = "SELECT agent, digest, user, ends_at FROM page_sessions WHERE ends_at > ? ORDER BY rowid"
    return [(row[0], StoredToken(row[1], row[2], row[3] / 1_000)) for row in db.execute(query, (milliseconds(),))]
