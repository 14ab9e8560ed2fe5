"""What the page asks of the daemon: the part of the client on core.sock that it uses."""

from __future__ import annotations

from typing import Protocol

from hive_core import protocol
from hive_core.protocol import SendAnswer


class Hive(Protocol):
    """All raise CoreError."""

    async def page_enter(self, ticket: str) -> protocol.PageSession: ...

    async def page_check(self, session: str) -> protocol.PageSession: ...

    async def page_send(self, session: str, body: str, *, key: str, reply_to: int | None = None) -> SendAnswer: ...

    async def page_answer(self, session: str, question: int, text: str) -> protocol.Question: ...

    async def inbox(self, limit: int) -> protocol.Inbox: ...

    async def open_items(self) -> protocol.OpenItems: ...
