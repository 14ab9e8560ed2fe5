"""Acceptance of messages: checks, idempotency keys, batching."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.infra.concurrency.tasks import BackgroundTasks, KeyedLocks, finish_detached
from hive_core.infra.concurrency.wakeups import Wakeups
from hive_core.infra.database.connection import Operation
from hive_core.infra.database.database import Database
from hive_core.infra.database.space import DatabaseSpace
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import store
from hive_core.messaging.directory import Directory
from hive_core.messaging.fairness.budgets import SendingBudgets
from hive_core.messaging.fairness.inboxes import Inboxes
from hive_core.messaging.fairness.pacing import Pacer
from hive_core.messaging.person_inbox import PersonReader
from hive_core.messaging.store import NO_NOTE, MessageNote, MessageRow, NewMessage
from hive_core.people.ownership.sight import EVERYTHING
from hive_core.protocol import MAX_BODY_BYTES, SendAnswer, SendRequest
from hive_core.protocol.names import OPERATOR, PERSON, SYSTEM, is_person

_log = structlog.get_logger(__name__)
T = TypeVar("T")


_SHOWN_BODY = 2_000
_CUT = "\n[The rest was cut off.]"
_RECENT = 60_000
"""Milliseconds for which a message counts in the budgets of its sender."""
_MOST_RECENT = 100_000
"""Messages that are looked at for this when the daemon starts."""


class OutgoingMessage(NamedTuple):
    """A message to store together with another change. `body` makes its text from its id.

    `charged` is for a message that was counted in its sender's budgets per minute before. `typed` is for the
    operator's that comes from its recipient's page: it is counted in the budgets of that agent, which serves the page.
    `beside` is for how many such messages there is room beside the share of the sender.
    """

    sender: str
    to: str
    body: Callable[[int], str]
    reply_to: int | None = None
    charged: bool = False
    typed: bool = False
    beside: int = 0


class Sender:
    """Accepts messages within the room of inboxes and the budgets of senders."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        events: EventHub,
        wakeups: Wakeups,
        *,
        inboxes: Inboxes,
        budgets: SendingBudgets,
        space: DatabaseSpace,
        pacer: Pacer,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._directory = directory
        self._events = events
        self._wakeups = wakeups
        self._inboxes = inboxes
        self._budgets = budgets
        self._space = space
        self._pacer = pacer
        self._background = BackgroundTasks()
        self._clock = clock
        self._batcher = SendBatcher(database)
        self._keys = KeyedLocks()
        self._last_id = 0

    async def open(self) -> None:
        """Read the last id, what waits, and what was sent within the last minute from the database."""
        now = self._clock()
        self._last_id, waiting, recent, delayed = await self._database.read(
            lambda db: (
                store.last_message_id(db),
                store.unacknowledged(db),
                store.recent_sends(db, now - _RECENT, _MOST_RECENT),
                store.delayed(db, now),
            )
        )
        self._inboxes.load(waiting)
        self._pacer.load(delayed)
        for sent in reversed(recent):
            age = max(0, now - sent.sent_at) / 1_000
            self._budgets.spend(sent.charged, sent.recipients, sent.size, age)

    async def send(
        self, sender: str, request: SendRequest, *, bypass_allowlist: bool = False, by: PersonReader | None = None
    ) -> SendAnswer:
        """Store a message; returns when it is on disk. With `bypass_allowlist` the sender may write to anybody.

        `by` is the person who sends it as the operator, to agents of which they may know.

        Raises `unknown_recipient`, `recipient_not_allowed`, `body_too_large`, `inbox_full`, `too_many_waiting`,
        `database_full`, `sending_too_fast`, and `idempotency_conflict` when the key was used for another message. A
        refused message is stored for nobody.
        """
        size = _size(request.body)
        if size > MAX_BODY_BYTES:
            raise HiveError(
                "body_too_large",
                f"the body has {size} bytes, at most {MAX_BODY_BYTES} are allowed",
                hint="put it into a file and send where it is, or send it in parts",
                status=413,
            )
        lister = SYSTEM if bypass_allowlist else sender
        if request.idempotency_key is None:
            return await self._store(sender, request, lister, size, by)
        if by is not None:
            # Keys of one person say nothing of those of another.
            request = request.model_copy(update={"idempotency_key": f"{PERSON}{by.name}:{request.idempotency_key}"})
        # Shielded: the key must stay locked until the message is on disk, also if the sender hangs up and repeats it.
        storing = self._store_once(sender, request, request.idempotency_key or "", lister, size, by)
        return await finish_detached(asyncio.ensure_future(storing))

    async def deliver(self, message: OutgoingMessage, within: Callable[[sqlite3.Connection, int], T]) -> T:
        """Carry out `within`, which is given the message's id, and store the message with it: both or neither.

        Returns the result of `within` when it is on disk, and raises its errors; before, `unknown_recipient`,
        `inbox_full`, `too_many_waiting`, `database_full` and `sending_too_fast`. The sender's allowed recipients are
        not checked.
        """
        recipients = self._directory.recipients(SYSTEM, message.to)
        self._inboxes.check(message.sender, recipients, beside=message.beside)
        number = self._last_id + 1
        row = MessageRow(number, message.sender, message.to, message.body(number), message.reply_to, self._clock())
        if not message.charged:
            payer = message.to if message.typed else message.sender
            self.charge(payer, recipients, _size(row.body))
        due, _ = self._pacer.record(number, message.sender, recipients)
        return await self._store_with([NewMessage(row, None, recipients, due)], lambda db: within(db, number))

    def charge(self, sender: str, recipients: Sequence[str], size: int) -> None:
        """Count a message in its sender's budgets per minute; raises `database_full`, `sending_too_fast`."""
        if sender != SYSTEM:
            self._space.check(reserved=sender == OPERATOR)
        self._budgets.check(sender, recipients)
        self._pacer.check(sender, recipients)
        self._budgets.spend(sender, recipients, size)

    async def announce(
        self, notifications: Sequence[tuple[str, str]], within: Operation[T], about: str | None = None
    ) -> T:
        """Carry out `within`, and store messages from `system` with it, as (recipient, body): all of it or nothing.

        `about` is the agent that they are about: messages to the operator are for who may know of it.

        Returns the result of `within` when it is on disk, and raises its errors. A message to a full inbox or to an
        unknown recipient is left out and logged, and a body that is too long is cut.
        """
        new: list[NewMessage] = []
        planned: Counter[str] = Counter()
        for to, body in notifications:
            recipients = self._reachable(to, planned)
            planned.update(recipients)
            if recipients:
                person = to.removeprefix(PERSON) if is_person(to) else None
                named = to if person is None else OPERATOR
                row = MessageRow(self._last_id + len(new) + 1, SYSTEM, named, _cut(body), None, self._clock())
                note = MessageNote(None, about, person) if OPERATOR in recipients else NO_NOTE
                new.append(NewMessage(row, None, recipients, note=note))
        return await self._store_with(new, within)

    async def _store_with(self, new: Sequence[NewMessage], within: Operation[T]) -> T:
        """Carry out `within` and store `new`, whose ids are the next ones, in one transaction."""

        def operation(db: sqlite3.Connection) -> T:
            result = within(db)
            store.insert(db, new)
            return result

        stored = self._database.submit(operation)
        # Messages with higher ids are stored behind it, so that recipients get all messages in order.
        self._batcher.seal()
        self._last_id += len(new)
        stored.add_done_callback(partial(self._stored_with, new))
        for message in new:
            self._on_its_way(message.row.sender, message.recipients, _size(message.row.body))
        # Not the future itself, which would be cancelled with the caller: the operation is carried out anyway.
        await asyncio.wait([stored])
        return stored.result()

    def _reachable(self, to: str, planned: Counter[str]) -> list[str]:
        """Return the recipients of a message from `system` whose inboxes have room beside the `planned` messages."""
        try:
            recipients = self._directory.recipients(SYSTEM, to)
        except HiveError as error:
            _log.warning("announcement not stored", to=to, code=error.code)
            return []
        full = self._inboxes.full(SYSTEM, recipients, planned)
        if full:
            _log.warning("announcement not stored", to=full, code="inbox_full")
        return [name for name in recipients if name not in full]

    def _stored_with(self, new: Sequence[NewMessage], stored: asyncio.Future[T]) -> None:
        committed = stored.exception() is None
        for message in new:
            row, about = message.row, message.note.about
            self._settled(row, row.sender, message.recipients, _size(row.body), committed, about=about)

    async def _store_once(
        self, sender: str, request: SendRequest, key: str, lister: str, size: int, by: PersonReader | None
    ) -> SendAnswer:
        async with self._keys.hold((sender, key)):
            earlier = await self._database.read(lambda db: store.find_by_key(db, sender, key))
            if earlier is None:
                return await self._store(sender, request, lister, size, by)
            same = (earlier.to, earlier.body, earlier.reply_to) == (request.to, request.body, request.reply_to)
            if not same and not await self._database.read(lambda db: store.is_edited(db, earlier.id)):
                shown_key = key if by is None else key.removeprefix(f"{PERSON}{by.name}:")
                raise conflict(
                    "idempotency_conflict",
                    f"the key {shown_key!r} was used for another message, number {earlier.id}",
                    "use a new key for a new message",
                )
            recipients = await self._database.read(lambda db: store.recipients_of(db, earlier.id))
            return SendAnswer(id=earlier.id, recipients=recipients, duplicate=True)

    async def _store(
        self, sender: str, request: SendRequest, lister: str, size: int, by: PersonReader | None = None
    ) -> SendAnswer:
        recipients = self._directory.recipients(lister, request.to, EVERYTHING if by is None else by.sees)
        payer = store.charged(sender, request.to, request.idempotency_key)
        self._inboxes.check(payer, recipients)
        self.charge(payer, recipients, size)
        self._last_id += 1
        row = MessageRow(self._last_id, sender, request.to, request.body, request.reply_to, self._clock())
        # A sender that hangs up only stops waiting: the message is stored, and its recipients are woken.
        due, loop = self._pacer.record(row.id, sender, recipients)
        stored = self._batcher.put(
            NewMessage(row, request.idempotency_key, recipients, due, NO_NOTE if by is None else MessageNote(by.name)),
            partial(self._settled, row, payer, recipients, size),
        )
        self._on_its_way(payer, recipients, size)
        if loop is not None:
            self._tell_later(self._pacer.notices(loop, self._directory.names()), about=min(loop.members))
        await stored
        return SendAnswer(id=row.id, recipients=recipients, duplicate=False)

    def _tell_later(self, notices: Sequence[tuple[str, str]], about: str) -> None:
        """Announce in the background, so that the sender of a message does not wait for it."""

        async def tell() -> None:
            try:
                await self.announce(notices, lambda _: None, about)
            except HiveError as error:
                _log.warning("announcement not stored", to=[to for to, _ in notices], code=error.code)

        self._background.start(tell(), name="announcement")

    def _on_its_way(self, payer: str, recipients: Sequence[str], size: int) -> None:
        self._inboxes.add(payer, recipients, size)
        self._space.add(size)
        for name in recipients:
            self._wakeups.announce(name)

    def _settled(
        self,
        row: MessageRow,
        payer: str,
        recipients: Sequence[str],
        size: int,
        stored: bool,
        *,
        about: str | None = None,
    ) -> None:
        if not stored:
            for name in recipients:
                self._inboxes.remove(payer, name, size)
            return
        for name in recipients:
            self._wakeups.wake(name)
        self._events.publish(
            "message.sent",
            {
                "id": row.id,
                "sender": row.sender,
                "to": row.to,
                "recipients": list(recipients),
                "reply_to": row.reply_to,
                "body": row.body[:_SHOWN_BODY],
                **({} if about is None else {"about": about}),
            },
        )


def _size(body: str) -> int:
    return len(body) if body.isascii() else len(body.encode())


def _cut(body: str) -> str:
    if len(body) <= MAX_BODY_BYTES // 4 or len(data := body.encode()) <= MAX_BODY_BYTES:
        return body
    return data[: MAX_BODY_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


Settled = Callable[[bool], None]
_Entry = tuple[NewMessage, Settled, asyncio.Future[None]]


class SendBatcher:
    """Stores messages in the order of `put`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: list[_Entry] | None = None
        # Held for a few instructions at a time, by the event loop and SQLite's thread.
        self._lock = threading.Lock()

    def put(self, message: NewMessage, settled: Settled) -> asyncio.Future[None]:
        """Queue a message; the future is done when it is on disk.

        `settled` is called with True if it was stored, else False, also if the future was cancelled.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (message, settled, future)
        with self._lock:
            if self._open is not None:
                self._open.append(entry)
                return future
        batch = [entry]
        flushed = self._database.submit(partial(self._flush, batch))
        # The flush cannot have begun: the writer starts it when the event loop runs its next step.
        with self._lock:
            self._open = batch
        flushed.add_done_callback(partial(self._settle, batch))
        return future

    def seal(self) -> None:
        """Begin a new batch: later messages are stored behind all operations submitted until then."""
        with self._lock:
            self._open = None

    def _flush(self, batch: list[_Entry], db: sqlite3.Connection) -> None:
        # Runs on SQLite's thread. No message is added to the batch from here on.
        self._close(batch)
        store.insert(db, [message for message, _, _ in batch])

    def _settle(self, batch: list[_Entry], flushed: asyncio.Future[None]) -> None:
        error = flushed.exception()
        self._close(batch)  # The transaction may have failed before this flush had its turn.
        for _, settled, future in batch:
            settled(error is None)
            if future.done():
                continue  # The sender has hung up.
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _close(self, batch: list[_Entry]) -> None:
        with self._lock:
            if self._open is batch:
                self._open = None
