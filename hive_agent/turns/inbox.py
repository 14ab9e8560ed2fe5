"""Messages leased to this harness: for the turn that runs, and kept back for turns that wait for a person."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable

from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.turns.runner import keep_leases
from hive_core.protocol import MAX_WAIT_SECONDS, AckRequest, Delivery, LeaseRequest, ReceiveAnswer, ReceiveRequest

log = logging.getLogger(__name__)

_MORE_SECONDS = 5.0
"""How long a running turn waits for a look at what came meanwhile: the daemon may be away."""


class LeasedInbox:
    """All calls about messages of one life of a harness. They raise CoreError; `changed` is called after changes.

    What is `kept` stays leased, so that it does not come again with every receive; it is free when it is released, or
    when another harness says hello.
    """

    def __init__(
        self,
        client: CoreClient,
        instance: str,
        lease_seconds: Callable[[], float],
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._client = client
        self._instance = instance
        self._lease_seconds = lease_seconds
        self._changed = changed
        self.kept: set[int] = set()
        self.held_back: frozenset[int] = frozenset()
        """What the last `receive` said that it keeps: that is not in its answer."""

    async def receive(self, most: int, *, wait: bool) -> ReceiveAnswer:
        """The oldest free messages; waits for one, but not for longer than what is kept stays leased."""
        seconds = MAX_WAIT_SECONDS if wait else 0.0
        if self.kept:
            seconds = min(seconds, self._lease_seconds() / 3)
            await self._renew_kept()
        self.held_back = frozenset(self.kept)
        request = ReceiveRequest(instance=self._instance, wait_seconds=seconds, max=most, holding=sorted(self.kept))
        answer = await self._client.receive(request)
        if answer.deliveries:
            self._changed()
        return answer

    async def more(self, most: int) -> list[Delivery] | None:
        """The oldest free messages, for the turn that runs; None if the hive does not answer soon.

        Then some may be leased of which this harness has not heard: they come with the next `receive`.
        """
        request = ReceiveRequest(instance=self._instance, wait_seconds=0.0, max=most)
        try:
            async with asyncio.timeout(_MORE_SECONDS):
                answer = await self._client.receive(request)
        except TimeoutError:
            return None
        if answer.deliveries:
            self._changed()
        return answer.deliveries

    def keep(self, ids: Iterable[int]) -> None:
        """Do not give these back: their turn waits for a person."""
        self.kept.update(ids)

    async def release(self, ids: Collection[int]) -> None:
        """Hand these back. If that fails, the next receive or the end of their leases frees them."""
        self.kept.difference_update(ids)
        if not ids:
            return
        try:
            await self._client.release(LeaseRequest(instance=self._instance, ids=sorted(ids)))
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.error("messages were not handed back: %s", error)
        self._changed()

    async def release_all(self) -> None:
        self.kept.clear()
        await self._client.release(LeaseRequest(instance=self._instance))

    async def acknowledge(self, ids: Collection[int]) -> None:
        """These are dealt with."""
        await self._client.ack(AckRequest(instance=self._instance, ids=sorted(ids)))
        self.kept.difference_update(ids)
        self._changed()

    async def acknowledge_fetched(self, ids: Collection[int]) -> None:
        """These are dealt with, as far as the agent can be believed that it fetched them: others come again."""
        try:
            if ids:
                await self.acknowledge(ids)
        except CoreError as error:
            if not error.refusal:
                raise
            log.warning("messages that the model fetched are not acknowledged: %s", error)

    async def keep_leases(self) -> None:
        """Keep everything leased; ends only by raising `superseded`."""
        await keep_leases(self._client, self._instance, self._lease_seconds)

    async def _renew_kept(self) -> None:
        try:
            await self._client.renew(LeaseRequest(instance=self._instance, ids=sorted(self.kept)))
        except CoreError as error:
            if not error.refusal:
                raise
            # One of them is not leased to us any more: it comes with the receive that follows, and is kept again.
            self.kept.clear()
