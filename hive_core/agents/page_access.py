"""Tickets and sessions for agents' pages, in memory and in the database.

Tickets are lost when the daemon stops; sessions are stored in the database.

An agent serves its own page, so it knows the sessions of its viewers; each session is valid for that agent alone.

Only digests are stored, so that a copy of the database gives no access.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hive_core.errors import HiveError, forbidden
from hive_core.infra.database.database import steady_milliseconds

TICKET_SECONDS = 120.0
SESSION_SECONDS = 12 * 3_600.0
MOST = 20
"""Most tickets, and most sessions, of one agent; a new one replaces the oldest."""
_BYTES = 32
_TYPED, _TYPED_SECONDS = 60, 60.0
"""Most messages and answers from an agent's page, and in how long. No person types more, but the agent has the
session too, and each of them adds a row to the audit table for ever.
"""


@dataclass(frozen=True)
class PageToken:
    """A ticket or a session: its holder counts as `user` until `ends`."""

    secret: str
    user: str
    ends: float


@dataclass(frozen=True)
class StoredToken:
    """A token as it is stored: with the digest in place of the secret."""

    digest: str
    user: str
    ends: float


def digest(secret: str) -> str:
    """The digest of a secret. The secret is 32 random bytes, so it needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _steady_seconds() -> float:
    return steady_milliseconds() / 1_000


class PageAccess:
    """Tickets and sessions by agent."""

    def __init__(self, clock: Callable[[], float] = _steady_seconds) -> None:
        """`clock` gives the time in seconds since 1970, and never goes back."""
        self._clock = clock
        self._tickets: defaultdict[str, list[StoredToken]] = defaultdict(list)
        self._sessions: defaultdict[str, list[StoredToken]] = defaultdict(list)
        self._typed: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_TYPED))

    def forget(self, agent: str) -> None:
        """Discard the tokens of a destroyed agent, so that they give no access to another agent of its name."""
        self._tickets.pop(agent, None)
        self._sessions.pop(agent, None)
        self._typed.pop(agent, None)

    def restore(self, agent: str, session: StoredToken) -> None:
        """Add a session that an earlier daemon issued."""
        self._sessions[agent].append(session)

    def ticket(self, agent: str, user: str) -> PageToken:
        """Issue a ticket for the agent's page."""
        return self._issue(self._tickets[agent], user, TICKET_SECONDS)

    def redeem_ticket(self, agent: str, ticket: str) -> PageToken:
        """Exchange a ticket for a session of the same user. Raises `bad_ticket`."""
        found = self._find(self._tickets[agent], ticket)
        if found is None:
            hint = f"print a new link: hive-c0re open {agent}"
            raise forbidden("bad_ticket", "the ticket was used already, or is too old, or is none", hint)
        self._tickets[agent] = [entry for entry in self._tickets[agent] if entry.digest != digest(found.secret)]
        return self._issue(self._sessions[agent], found.user, SESSION_SECONDS)

    def check_session(self, agent: str, session: str) -> PageToken:
        """The token of a valid session. Raises `bad_session`."""
        found = self._find(self._sessions[agent], session)
        if found is None:
            hint = f"print a new link: hive-c0re open {agent}"
            raise forbidden("bad_session", "the session is over, or is none", hint)
        return found

    def refresh_session(self, agent: str, session: str) -> PageToken:
        """The token of a valid session from which something was sent. Raises `bad_session`, `too_much_typed`."""
        found, typed, now = self.check_session(agent, session), self._typed[agent], self._clock()
        # A negative difference means that the clock was set back, which must not cause refusals.
        if len(typed) == _TYPED and 0.0 <= now - typed[0] < _TYPED_SECONDS:
            text = f"more than {_TYPED} messages and answers within {_TYPED_SECONDS:.0f} s on the page of {agent}"
            raise HiveError("too_much_typed", text, hint="wait a moment", status=429)
        typed.append(now)
        return found

    def remaining(self, entry: PageToken) -> float:
        """Seconds until the token expires."""
        return max(0.0, entry.ends - self._clock())

    def _issue(self, entries: list[StoredToken], user: str, seconds: float) -> PageToken:
        new = PageToken(secrets.token_urlsafe(_BYTES), user, self._clock() + seconds)
        entries.append(StoredToken(digest(new.secret), user, new.ends))
        del entries[:-MOST]
        return new

    def _find(self, entries: list[StoredToken], secret: str) -> PageToken | None:
        # All are compared, each in constant time.
        given, now = digest(secret), self._clock()
        fitting = [entry for entry in entries if hmac.compare_digest(entry.digest, given)]
        return next((PageToken(secret, entry.user, entry.ends) for entry in fitting if entry.ends > now), None)


def add_session(db: sqlite3.Connection, agent: str, entry: PageToken) -> None:
    """Store a session; delete expired sessions and the oldest of too many."""
    db.execute("DELETE FROM page_sessions WHERE ends_at <= ?", (steady_milliseconds(),))
    # Not for an agent that was destroyed meanwhile: the session would be valid for the next one of its name.
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
    """Delete the sessions of an agent."""
    db.execute("DELETE FROM page_sessions WHERE agent = ?", (agent,))


def load_sessions(db: sqlite3.Connection) -> Sequence[tuple[str, StoredToken]]:
    """The sessions that have not expired, with their agents, the oldest first.

    None lasts longer than a new one, also if the clock was set back while no daemon ran.
    """
    now = steady_milliseconds()
    latest = now / 1_000 + SESSION_SECONDS
    query = "SELECT agent, digest, user, ends_at FROM page_sessions WHERE ends_at > ? ORDER BY rowid"
    return [(row[0], StoredToken(row[1], row[2], min(row[3] / 1_000, latest))) for row in db.execute(query, (now,))]
