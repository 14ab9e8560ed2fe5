"""The sessions and API tokens in memory, by the digests of their secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hive_core.people.store import Credential, digest


@dataclass
class _Entry:
    credential: Credential
    used_at: int
    stored_at: int
    """The time of the last use that the database has."""


class CredentialBook:
    """All credentials that have not ended. Times are in milliseconds, and never go back."""

    def __init__(self, idle: int) -> None:
        """`idle` is the time without a use after which a session ends."""
        self._idle = idle
        self._by_digest: dict[str, _Entry] = {}
        self._by_id: dict[int, _Entry] = {}

    def add(self, credential: Credential) -> None:
        """Add a credential that the database has."""
        entry = _Entry(credential, credential.used_at, credential.used_at)
        self._by_digest[credential.digest] = self._by_id[credential.id] = entry

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove credentials; unknown numbers are ignored."""
        for number in numbers:
            entry = self._by_id.pop(number, None)
            if entry is not None:
                del self._by_digest[entry.credential.digest]

    def use(self, secret: str, now: int) -> Credential | None:
        """Return the credential with this secret, and note its use; None if there is none or its time is up.

        Only digests are compared: whoever measures the time learns nothing of a secret.
        """
        entry = self._by_digest.get(digest(secret))
        if entry is None or now >= self._end(entry):
            return None
        entry.used_at = max(entry.used_at, now)
        return entry.credential

    def find(self, number: int, now: int) -> Credential | None:
        """Return the credential of this number, with its last use; None if there is none or its time is up."""
        entry = self._by_id.get(number)
        return None if entry is None or now >= self._end(entry) else _seen(entry)

    def select(self, now: int, person: str | None = None) -> list[Credential]:
        """Return the credentials of a person, or of all, with their last uses."""
        entries = self._by_id.values()
        return [
            _seen(entry) for entry in entries if now < self._end(entry) and person in (None, entry.credential.person)
        ]

    def due(self, now: int) -> list[Credential]:
        """Return the credentials whose time is up."""
        return [_seen(entry) for entry in self._by_id.values() if now >= self._end(entry)]

    def next_end(self) -> int | None:
        """Return the time at which the next credential ends if none is used meanwhile; None if there is none."""
        return min((self._end(entry) for entry in self._by_id.values()), default=None)

    def take_uses(self) -> list[tuple[int, int]]:
        """Return the last uses that the database does not have, which count as stored from now on."""
        uses = []
        for number, entry in self._by_id.items():
            if entry.used_at > entry.stored_at:
                entry.stored_at = entry.used_at
                uses.append((number, entry.used_at))
        return uses

    def _end(self, entry: _Entry) -> int:
        credential = entry.credential
        if credential.kind == "token":
            return credential.ends_at
        return min(credential.ends_at, entry.used_at + self._idle)


def _seen(entry: _Entry) -> Credential:
    return entry.credential._replace(used_at=entry.used_at)
