"""The harness: waits for messages, runs a turn with them, acknowledges them, says what it is doing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from hive_agent import received
from hive_agent.backends.base import Backend, Failed, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.batches import Batches
from hive_agent.client import CoreClient, CoreError
from hive_agent.presence import Presence
from hive_agent.turns import keep_leases, run_turn
from hive_core.protocol import (
    MAX_WAIT_SECONDS,
    AckRequest,
    Delivery,
    HarnessState,
    LeaseRequest,
    Profile,
    ReceiveRequest,
)

log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_GOODBYE_SECONDS = 2.0
_SHORTEST_POLL = 1.0
"""An empty answer sooner than this is not a poll that ran out: slow down, whatever the reason is."""


class Harness:
    """One life of an agent's harness, known to the hive as `instance`.

    `deployment` is the one that the runtime has started it on: with it, and with the first state that it reports, the
    hive knows that a new configuration works. `client` has to be endlessly patient: while the daemon is away the turn
    goes on, and calls wait. To the daemon that comes then it says hello again, and what it is doing.
    """

    def __init__(
        self,
        client: CoreClient,
        instance: str,
        version: str,
        state: Path,
        open_backend: Callable[[Profile], Backend],
        deployment: int | None = None,
    ) -> None:
        self._client = client
        self._instance = instance
        self._state = state
        self._open_backend = open_backend
        self._presence = Presence(client, instance, version, deployment)
        self._batches = Batches()
        self._pause = _FIRST_PAUSE
        self._settling: asyncio.Task[None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set or a newer harness takes over; then stop the turn and give leases back.

        Raises CoreError if the hive refuses this harness from the start.
        """
        work = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return
            log.info("asked to stop")
            if self._settling is not None:  # the turn is over: telling so spares the messages a second handling
                await asyncio.wait({self._settling}, timeout=_GOODBYE_SECONDS)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            with contextlib.suppress(TimeoutError, CoreError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await self._client.release(LeaseRequest(instance=self._instance))
        except CoreError as error:
            if error.code != "superseded":
                raise
            log.info("a newer harness has taken over, stopping: %s", error.message)
        finally:
            work.cancel()
            stopped.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)

    async def _work(self) -> None:
        presence = self._presence
        known: asyncio.Task[None] | None = None
        try:
            profile = await presence.hello()
            log.info("serving %s (%s) on deployment %d", profile.name, profile.config.backend, profile.deployment)
            backend = self._open_backend(profile)
            try:
                await presence.report("idle")
                known = asyncio.create_task(presence.keep())
                while True:
                    await self._next(backend, profile)
            finally:
                await backend.close()
        finally:
            if known is not None:
                known.cancel()
                await asyncio.gather(known, return_exceptions=True)
            presence.close()

    async def _next(self, backend: Backend, profile: Profile) -> None:
        """Wait for messages and handle them, whatever comes of it; raises only `superseded`."""
        batch: list[Delivery] = []
        try:
            deliveries = await self._receive()
            if not deliveries:
                return
            batch = self._batches.next(deliveries)
            taken = {delivery.id for delivery in batch}
            await self._set_aside([delivery.id for delivery in deliveries if delivery.id not in taken])
            started = time.monotonic()
            outcome = await self._turn(backend, profile, batch)
            ids = " ".join(map(str, sorted(taken)))
            log.info("turn with messages %s ended after %.2f s: %s", ids, time.monotonic() - started, _kind(outcome))
            if isinstance(outcome, Ok):
                self._settling = asyncio.create_task(self._acknowledge(batch))
                await asyncio.shield(self._settling)
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.error("the hive refused a call of the harness: %s", error)
            outcome = Failed(error.code, str(error))
        finally:
            self._settling = None
        if isinstance(outcome, Ok):
            self._batches.handled(batch)
            self._pause = _FIRST_PAUSE
            await self._presence.report("idle")
            return
        if isinstance(outcome, Failed):  # a missing login is no message's fault
            self._batches.failed(batch)
        await self._give_back(outcome)

    async def _receive(self) -> list[Delivery]:
        started = time.monotonic()
        answer = await self._client.receive(
            ReceiveRequest(instance=self._instance, wait_seconds=MAX_WAIT_SECONDS, max=self._batches.most, holding=[])
        )
        if not answer.deliveries:
            await asyncio.sleep(max(0.0, started + _SHORTEST_POLL - time.monotonic()))
        return answer.deliveries

    async def _set_aside(self, ids: list[int]) -> None:
        """Hand back, before the turn, what is not for it: the model may fetch messages, and gets the oldest first."""
        if ids:
            log.info("%d messages are left for later turns, as some were in failed turns before", len(ids))
            await self._client.release(LeaseRequest(instance=self._instance, ids=ids))

    async def _turn(self, backend: Backend, profile: Profile, deliveries: list[Delivery]) -> TurnOutcome:
        received.clear(self._state, self._instance)
        await self._presence.report("thinking", f"{len(deliveries)} message{'s' if len(deliveries) > 1 else ''}")
        leases = keep_leases(self._client, self._instance, lambda: self._presence.lease_seconds)
        return await run_turn(backend, Turn(tuple(deliveries)), leases, profile.config.turn_timeout)

    async def _acknowledge(self, deliveries: list[Delivery]) -> None:
        """Acknowledge what the model saw: the turn's messages, and those that it fetched itself meanwhile."""
        ids = {delivery.id for delivery in deliveries} | set(received.read(self._state, self._instance))
        await self._client.ack(AckRequest(instance=self._instance, ids=sorted(ids)))

    async def _give_back(self, outcome: Failed | NeedsLogin) -> None:
        """After a turn that failed: say so, hand its messages back, and wait longer with every failure in a row."""
        state: HarnessState = "needs_login" if isinstance(outcome, NeedsLogin) else "failed"
        log.warning("turn %s: %s; next try in %g s", _kind(outcome), outcome.detail, self._pause)
        await self._presence.report(state, outcome.detail)
        try:
            await self._client.release(LeaseRequest(instance=self._instance))
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.error("the messages were not handed back, their leases have to run out: %s", error)
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)


def _kind(outcome: TurnOutcome) -> str:
    match outcome:
        case Ok():
            return "ok"
        case Failed(kind=kind):
            return f"failed ({kind})"
        case NeedsLogin():
            return "needs login"
