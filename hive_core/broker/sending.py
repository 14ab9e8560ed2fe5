"""The sender's side: who may send what to whom, and that it is stored once and in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

from hive_core.broker import store
from hive_core.broker.bells import Bells
from hive_core.broker.directory import Directory
from hive_core.broker.keys import KeyLocks
from hive_core.broker.outbox import Outbox
from hive_core.broker.store import MessageRow, NewMessage
from hive_core.database import Database
from hive_core.errors import HiveError, conflict
from hive_core.events import EventHub
from hive_core.protocol import MAX_BODY_BYTES, SendAnswer, SendRequest

_SHOWN_BODY = 2_000


class Sending:
    """Accepts messages. Also counts the unacknowledged ones per recipient, since that is what bounds an inbox."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        events: EventHub,
        bells: Bells,
        *,
        inbox_limit: int,
        clock: Callable[[], int],
    ) -> None:
        self.unacknowledged: Counter[str] = Counter()
        self._database = database
        self._directory = directory
        self._events = events
        self._bells = bells
        self._limit = inbox_limit
        self._clock = clock
        self._outbox = Outbox(database)
        self._keys = KeyLocks()
        self._last_id = 0

    async def open(self) -> None:
        """Read the counts and the last id from the database."""
        self._last_id, waiting = await self._database.read(
            lambda db: (store.last_message_id(db), store.unacknowledged(db))
        )
        self.unacknowledged.update(waiting)

    async def send(self, sender: str, request: SendRequest) -> SendAnswer:
        """Store a message; returns when it is on disk.

        Raises `unknown_recipient`, `recipient_not_allowed`, `body_too_large`, `inbox_full`, and
        `idempotency_conflict` when the key was used for another message. A refused message is stored for nobody.
        """
        size = len(request.body) if request.body.isascii() else len(request.body.encode())
        if size > MAX_BODY_BYTES:
            raise HiveError(
                "body_too_large",
                f"the body has {size} bytes, at most {MAX_BODY_BYTES} are allowed",
                hint="put it into a file and send where it is, or send it in parts",
                status=413,
            )
        if request.idempotency_key is None:
            return await self._store(sender, request)
        # Shielded: the key must stay locked until the message is on disk, also when the sender hangs up and asks again.
        return await asyncio.shield(asyncio.ensure_future(self._store_once(sender, request, request.idempotency_key)))

    async def _store_once(self, sender: str, request: SendRequest, key: str) -> SendAnswer:
        async with self._keys.hold((sender, key)):
            earlier = await self._database.read(lambda db: store.find_by_key(db, sender, key))
            if earlier is None:
                return await self._store(sender, request)
            if (earlier.to, earlier.body, earlier.reply_to) != (request.to, request.body, request.reply_to):
                raise conflict(
                    "idempotency_conflict",
                    f"the key {key!r} was used for another message, number {earlier.id}",
                    "use a new key for a new message",
                )
            recipients = await self._database.read(lambda db: store.recipients_of(db, earlier.id))
            return SendAnswer(id=earlier.id, recipients=recipients, duplicate=True)

    async def _store(self, sender: str, request: SendRequest) -> SendAnswer:
        recipients = self._directory.recipients(sender, request.to)
        self._check_room(recipients)
        self._last_id += 1
        row = MessageRow(self._last_id, sender, request.to, request.body, request.reply_to, self._clock())
        # A sender that hangs up ends only its own waiting: the message is on its way, and its recipients will wake.
        stored = self._outbox.put(
            NewMessage(row, request.idempotency_key, recipients), partial(self._settled, row, recipients)
        )
        self.unacknowledged.update(recipients)
        for name in recipients:
            self._bells.expect(name)
        await stored
        return SendAnswer(id=row.id, recipients=recipients, duplicate=False)

    def _check_room(self, recipients: list[str]) -> None:
        full = [name for name in recipients if self.unacknowledged[name] >= self._limit]
        if full:
            raise HiveError(
                "inbox_full",
                f"{', '.join(full)}: {self._limit} messages wait there already; this one was not stored",
                hint="send again when some of them are handled",
                status=429,
            )

    def _settled(self, row: MessageRow, recipients: list[str], stored: bool) -> None:
        if not stored:
            self.unacknowledged.subtract(recipients)
            return
        for name in recipients:
            self._bells.ring(name)
        self._events.publish(
            "message.sent",
            {
                "id": row.id,
                "sender": row.sender,
                "to": row.to,
                "recipients": recipients,
                "reply_to": row.reply_to,
                "body": row.body[:_SHOWN_BODY],
            },
        )
