"""A connection of an agent to a service of the host, which the operator has offered by name.

The bytes of it are passed on as they are. No rule and no table of refused addresses holds for it: the operator has
named the address.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from hive_core.protocol.network.packets import Reason
from hive_core.protocol.network.services import purpose_of, read_address
from hive_core.services.egress.agent import EgressAgent
from hive_core.services.egress.checks.decision import EgressRefusal
from hive_core.services.egress.refusals import RefusalCounter
from hive_core.services.egress.traffic.base_connection import EgressConnection
from hive_core.services.egress.traffic.dial import Dialer, Unreachable

_CONNECT_SECONDS = 60.0
"""More than the dialer takes."""
_RESET = struct.pack("ii", 1, 0)


class ServiceConnection(EgressConnection):
    """A connection from the agent to one of its services."""

    ends_with_policy = True

    def __init__(
        self, dialer: Dialer, refusals: RefusalCounter, agent: EgressAgent, name: str, client: socket.socket
    ) -> None:
        self._dialer = dialer
        self._refusals = refusals
        self._name = name
        self._service = agent.policy.services.get(name)
        super().__init__(agent, client, _CONNECT_SECONDS)

    def is_decided(self) -> bool:
        """Return True: the listener says where the connection leads."""
        return True

    def is_allowed(self) -> bool:
        """Return True while the agent has the service at the same address."""
        return self._agent.policy.services.get(self._name) == self._service

    async def _serve(self) -> None:
        refusal = self._refuse()
        if refusal is None and self._service is not None and self._service.address is not None:
            try:
                self._server = await self._dialer.connect_service(self._agent, read_address(self._service.address))
            except Unreachable as why:
                refusal = self._refusal("service_down", str(why))
        if refusal is None:
            await self._pass()
            return
        self._refusals.add(self._agent.name, refusal)
        # An end in order would look like an empty answer.
        with suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _refusal(self, reason: Reason, detail: str = "") -> EgressRefusal:
        return EgressRefusal(reason, purpose_of(self._name), detail=detail)

    def _refuse(self) -> EgressRefusal | None:
        if self._service is None or self._service.address is None:
            return self._refusal("service_withdrawn")
        if self._agent.is_full():
            return EgressRefusal("connections")
        if self._agent.decider.limits.bytes_per_day is not None and self._agent.is_over_bytes():
            return EgressRefusal("bytes_per_day")
        return None
