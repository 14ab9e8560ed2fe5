"""Requests about the messages that a harness holds."""

from __future__ import annotations

from typing import cast

from hive_agent.client.core_client import CoreClient
from hive_agent.turns.inbox import LeasedInbox
from hive_core.protocol import MAX_LEASED, AckRequest, LeaseRequest, ReceiveAnswer, ReceiveRequest


class FakeClient:
    """Notes which ids each request names."""

    def __init__(self) -> None:
        self.named: list[tuple[str, list[int] | None]] = []

    async def ack(self, request: AckRequest) -> None:
        self.named.append(("ack", request.ids))

    async def release(self, request: LeaseRequest) -> None:
        self.named.append(("release", request.ids))

    async def renew(self, request: LeaseRequest) -> None:
        self.named.append(("renew", request.ids))

    async def receive(self, request: ReceiveRequest) -> ReceiveAnswer:
        self.named.append(("receive", request.holding))
        return ReceiveAnswer(deliveries=[], waiting=0)


async def test_many_messages_take_several_requests() -> None:
    """Whatever the model says that it fetched, each request names as many messages as the daemon takes."""
    client = FakeClient()
    inbox = LeasedInbox(cast(CoreClient, client), "instance-1", lambda: 60.0)
    ids = list(range(1, 2 * MAX_LEASED + 2))
    parts = [ids[:MAX_LEASED], ids[MAX_LEASED:-1], ids[-1:]]
    inbox.keep(reversed(ids))
    await inbox.receive(10, wait=False)
    assert client.named == [*(("renew", part) for part in parts), ("receive", parts[0])]
    client.named.clear()
    await inbox.acknowledge_fetched(ids)
    await inbox.release(ids)
    assert client.named == [*(("ack", part) for part in parts), *(("release", part) for part in parts)]
