"""The registration of a harness and its state with the daemon, repeated after each restart of the daemon."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from hive_agent.client.connection import CoreError, LivenessConnection
from hive_agent.client.core_client import CoreClient
from hive_core.protocol import HarnessState, HarnessWork, HelloRequest, LeaseRequest, Profile, StateRequest

log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_SHORTEST_CONNECTION = 1.0
"""A connection that breaks sooner was not accepted, so the next attempt follows after a pause; seconds."""


class Registration:
    """The registration of a harness as `instance`, with the deployment that it was started on.

    A container continues to run when the daemon restarts, and the new daemon knows the instance from its database, but
    not its deployment and state. As a busy harness makes few calls, it notices the restart by a separate connection,
    and registers again.
    """

    def __init__(
        self,
        client: CoreClient,
        instance: str,
        version: str,
        deployment: int | None,
        registered_again: Callable[[], object] = lambda: None,
    ) -> None:
        """`registered_again` is called after each registration with another daemon."""
        self._registered_again = registered_again
        self._client = client
        self._instance = instance
        self._version = version
        self._deployment = deployment
        self._state = StateRequest(instance=instance, state="starting")
        self._reporting = asyncio.Lock()
        self._liveness: LivenessConnection | None = None
        self._profile: Profile | None = None

    @property
    def lease_seconds(self) -> float:
        """Duration of a lease of the current daemon."""
        return math.inf if self._profile is None else self._profile.lease_seconds

    @property
    def control_key(self) -> str:
        """The key by which the current daemon names itself on the view socket."""
        return "" if self._profile is None else self._profile.control_key

    async def hello(self) -> Profile:
        """Register as the agent's only harness. Raises CoreError."""
        # Opened before the call, so that an exit of the daemon that answers is noticed.
        self._liveness = await self._client.open_liveness_connection()
        return await self._hello(again=False)

    async def report(
        self,
        state: HarnessState,
        detail: str = "",
        notice: str = "",
        goes_on_at: float | None = None,
        turn: int | None = None,
        work: HarnessWork | None = None,
    ) -> None:
        """Report the state of the harness, and a notice for the operator. Raises only `superseded`."""
        try:
            async with self._reporting:  # One at a time, so that the last state arrives last.
                self._state = StateRequest(
                    instance=self._instance,
                    state=state,
                    detail=detail[:2_000],
                    goes_on_at=goes_on_at,
                    turn=turn,
                    work=work,
                )
                await self._send_state(notice[:2_000])
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.error("the state %s was not reported: %s", state, error)

    async def keep(self) -> None:
        """Register and report the state after each restart of the daemon.

        Ends only when another harness has taken over, which every other call reports, too.
        """
        pause = _FIRST_PAUSE
        while self._liveness is not None:
            opened = time.monotonic()
            await self._liveness.wait_broken()
            if time.monotonic() - opened < _SHORTEST_CONNECTION:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
            self._liveness = await self._client.open_liveness_connection()
            try:
                await self._hello(again=True)
                async with self._reporting:
                    await self._send_state()
                # The daemon may have been down for longer than the leases last.
                await self._client.renew(LeaseRequest(instance=self._instance))
                log.info("registered with the restarted daemon")
                self._registered_again()
            except CoreError as error:
                if error.code == "superseded":
                    return
                log.error("the restarted daemon refuses this harness: %s", error)

    def close(self) -> None:
        """Close the connection."""
        if self._liveness is not None:
            self._liveness.close()

    async def _hello(self, *, again: bool) -> Profile:
        request = HelloRequest(instance=self._instance, version=self._version, deployment=self._deployment, again=again)
        self._profile = await self._client.hello(request)
        return self._profile

    async def _send_state(self, notice: str = "") -> None:
        await self._client.state(self._state.model_copy(update={"notice": notice}))
