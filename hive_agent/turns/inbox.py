"""Messages leased to this harness: for the running turn, and for turns that are held for the operator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator

from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.turns.attempts.runner import keep_leases
from hive_core.protocol import (
    MAX_LEASED,
    MAX_WAIT_SECONDS,
    AckRequest,
    Delivery,
    LeaseRequest,
    ReceiveAnswer,
    ReceiveRequest,
)

log = logging.getLogger(__name__)

_MORE_SECONDS = 5.0
"""Time limit for fetching new messages into a running turn, as the daemon may be down."""


class LeasedInbox:
    """The calls about messages of one harness instance. They raise CoreError; `changed` is called after changes.

    Messages in `kept` stay leased, so that `receive` does not return them again; they become free when they are
    released, or when another harness registers.
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
        """The messages that the last `receive` declared as held, so that its answer does not contain them."""

    async def receive(self, most: int, *, wait: bool) -> ReceiveAnswer:
        """Lease the oldest free messages; waits for one, but not for longer than kept leases last."""
        seconds = MAX_WAIT_SECONDS if wait else 0.0
        if self.kept:
            seconds = min(seconds, self._lease_seconds() / 3)
            await self._renew_kept()
        self.held_back = frozenset(self.kept)
        # The daemon looks at so many of the oldest messages only, so it would hand out no other of these again.
        holding = sorted(self.kept)[:MAX_LEASED]
        request = ReceiveRequest(instance=self._instance, wait_seconds=seconds, max=most, holding=holding)
        answer = await self._client.receive(request)
        if answer.deliveries:
            self._changed()
        return answer

    async def more(self, most: int) -> list[Delivery] | None:
        """Lease the oldest free messages for the running turn; None if the daemon does not answer soon.

        It may have leased some all the same: the next `receive` returns them.
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
        """Keep these leased: their turn is held for the operator."""
        self.kept.update(ids)

    async def release(self, ids: Collection[int]) -> None:
        """Release these. If that fails, the next receive or the end of their leases frees them."""
        self.kept.difference_update(ids)
        if not ids:
            return
        try:
            for part in _parts(ids):
                await self._client.release(LeaseRequest(instance=self._instance, ids=part))
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.error("messages were not released: %s", error)
        self._changed()

    async def release_all(self) -> None:
        self.kept.clear()
        await self._client.release(LeaseRequest(instance=self._instance))

    async def acknowledge(self, ids: Collection[int]) -> None:
        """Acknowledge messages that were handled."""
        for part in _parts(ids):
            await self._client.ack(AckRequest(instance=self._instance, ids=part))
        self.kept.difference_update(ids)
        self._changed()

    async def acknowledge_fetched(self, ids: Collection[int]) -> None:
        """Acknowledge messages that the model fetched. The agent can fake that list, so a refusal is not an error."""
        try:
            if ids:
                await self.acknowledge(ids)
        except CoreError as error:
            if not error.refusal:
                raise
            log.warning("messages that the model fetched are not acknowledged: %s", error)

    async def keep_leases(self) -> None:
        """Renew all leases; ends only by raising `superseded`."""
        await keep_leases(self._client, self._instance, self._lease_seconds)

    async def _renew_kept(self) -> None:
        try:
            for part in _parts(self.kept):
                await self._client.renew(LeaseRequest(instance=self._instance, ids=part))
        except CoreError as error:
            if not error.refusal:
                raise
            # A lease has expired: the receive that follows returns the message, and it is kept again.
            self.kept.clear()


def _parts(ids: Collection[int]) -> Iterator[list[int]]:
    """Yield sorted lists of as many ids as one request may name; an empty one if there are no ids."""
    ordered = sorted(ids)
    for start in range(0, max(1, len(ordered)), MAX_LEASED):
        yield ordered[start : start + MAX_LEASED]
