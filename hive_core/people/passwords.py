"""Hashes of passwords (argon2id, RFC 9106), made in threads of their own and in bounded number."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from hive_core.infra.concurrency.fair_queue import FairQueue, QueueFull
from hive_core.infra.concurrency.tasks import finish_detached
from hive_core.infra.concurrency.threads import PASSWORDS
from hive_core.protocol.people.passwords import MOST_PASSWORD_BYTES, password_bytes

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

AT_ONCE = 2
"""Hashes that are made side by side."""
WAITING_OF_ONE = 4
WAITING = 32
"""Most that wait: of one party, and in all."""


class TooManyPasswords(Exception):
    """As many passwords wait to be hashed as may."""


def make_hasher() -> PasswordHasher:
    """Return the parameters of new hashes: the second choice of RFC 9106, on one processor."""
    from argon2 import PasswordHasher  # noqa: PLC0415 - no start of a daemon waits for it

    return PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)


class Passwords:
    """Makes and compares hashes. Parties, such as addresses, take turns.

    The number of all that wait has no limit for `trusted` ones, whose number is limited in other ways.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher
        self._queue = FairQueue(AT_ONCE, AT_ONCE, WAITING_OF_ONE)
        self._waiting = 0
        self._nobodys = ""
        """A hash for names that nobody has."""

    async def hash(self, password: str, party: str) -> str:
        """Return the hash of a password that is valid, for a trusted party. Raises TooManyPasswords."""
        content = password_bytes(password)
        if content is None:
            raise ValueError("the password is no Unicode")
        return await self._run(party, lambda: self._made().hash(content), trusted=True)

    async def is_right(self, stored: str | None, password: str, party: str, *, trusted: bool) -> bool:
        """Return True if the password has the hash `stored`. Raises TooManyPasswords.

        Without a hash the answer is False after the same work, so that the time does not tell which names there are.
        """
        content = (password_bytes(password) or b"")[: MOST_PASSWORD_BYTES + 1]
        return await self._run(party, lambda: self._compare(stored, content), trusted=trusted)

    def is_outdated(self, stored: str) -> bool:
        """Return True if the hash, with which a password was compared, was made with other parameters."""
        return self._made().check_needs_rehash(stored)

    def _made(self) -> PasswordHasher:
        if self._hasher is None:
            self._hasher = make_hasher()
        return self._hasher

    def _compare(self, stored: str | None, content: bytes) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415 - as in `make_hasher`

        hasher = self._made()
        if stored is None:
            self._nobodys = self._nobodys or _hash_of_nothing(hasher)
        try:
            return hasher.verify(stored or self._nobodys, content) and stored is not None
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, party: str, work: Callable[[], T], *, trusted: bool) -> T:
        if self._waiting >= WAITING + AT_ONCE and not trusted:
            raise TooManyPasswords
        self._waiting += 1
        try:
            try:
                release = await self._queue.acquire(party)
            except QueueFull:
                raise TooManyPasswords from None
            task = asyncio.ensure_future(PASSWORDS.run(work))
            # Whoever hangs up gets no further turn by that: the slot is taken until the thread is free.
            task.add_done_callback(lambda _: release())
            return await finish_detached(task)
        finally:
            self._waiting -= 1


def _hash_of_nothing(hasher: PasswordHasher) -> str:
    """Return a hash that is compared with as much work as any other, and that no password has."""
    salt, value = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${value}"
