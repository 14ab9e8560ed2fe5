"""What the hive knows of a harness: who it is and what it is doing; told again to each daemon that is new."""

from __future__ import annotations

import asyncio
import logging
import math
import time

from hive_agent.client.connection import CoreError, LivenessConnection
from hive_agent.client.core_client import CoreClient
from hive_core.protocol import HarnessState, HelloRequest, LeaseRequest, Profile, StateRequest

log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_SHORTEST_LINE = 1.0
"""A line to the daemon that breaks sooner was not taken: slow down, whatever the reason is."""


class Registration:
    """One harness, known as `instance`, on the deployment that it was started on.

    A container outlives the daemon, and a new daemon knows the instance from its database, but neither the deployment
    nor the state. A harness that is at work calls rarely; so that the daemon need not wait for that, a connection on
    which nothing is asked tells when the old one has ended.
    """

    def __init__(self, client: CoreClient, instance: str, version: str, deployment: int | None) -> None:
        self._client = client
        self._instance = instance
        self._version = version
        self._deployment = deployment
        self._said: tuple[HarnessState, str] = ("starting", "")
        self._saying = asyncio.Lock()
        self._line: LivenessConnection | None = None
        self._profile: Profile | None = None

    @property
    def lease_seconds(self) -> float:
        """How long the daemon that is there now leases messages."""
        return math.inf if self._profile is None else self._profile.lease_seconds

    async def hello(self) -> Profile:
        """Become the one that speaks for the agent. Raises CoreError."""
        self._line = await self._client.open_line()  # First: whatever becomes of the daemon that answers is noticed.
        return await self._hello(again=False)

    async def report(self, state: HarnessState, detail: str = "") -> None:
        """Say what the harness is doing. Raises only `superseded`."""
        try:
            async with self._saying:  # One at a time: what is said last has to come last.
                self._said = (state, detail[:2_000])
                await self._tell()
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.error("the state %s was not reported: %s", state, error)

    async def keep(self) -> None:
        """Say hello, and what the harness is doing, to each daemon that takes the place of the one before.

        Ends only when another harness has taken over, of which every other call tells, too.
        """
        pause = _FIRST_PAUSE
        while self._line is not None:
            opened = time.monotonic()
            await self._line.broken()
            if time.monotonic() - opened < _SHORTEST_LINE:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
            self._line = await self._client.open_line()
            try:
                await self._hello(again=True)
                async with self._saying:
                    await self._tell()
                # The daemon may have been away for longer than the leases last.
                await self._client.renew(LeaseRequest(instance=self._instance))
                log.info("the daemon is back, and knows this harness")
            except CoreError as error:
                if error.code == "superseded":
                    return
                log.error("the daemon does not take this harness back: %s", error)

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()

    async def _hello(self, *, again: bool) -> Profile:
        request = HelloRequest(instance=self._instance, version=self._version, deployment=self._deployment, again=again)
        self._profile = await self._client.hello(request)
        return self._profile

    async def _tell(self) -> None:
        state, detail = self._said
        await self._client.state(StateRequest(instance=self._instance, state=state, detail=detail))
