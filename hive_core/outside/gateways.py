"""The gateways of agents to the world, and the doors at which agents hand their listeners over to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hive_core.infra.concurrency.closing import close_apart
from hive_core.outside.handed_sockets import ExpectedListener, HandedSockets
from hive_core.outside.handover_door import HandedListener


class AgentGateway(Protocol):
    """Interface to the daemon's side of one gateway, as far as this module needs it."""

    def hold(self, name: str) -> None:
        """Have the gateway serve an agent if its configuration says so, and not otherwise."""

    def release(self, name: str) -> None:
        """Have the gateway end all that it does for an agent."""

    def listeners(self, name: str) -> Mapping[str, ExpectedListener]:
        """Return the listeners by which an agent reaches the gateway, by their purposes."""

    def receive(self, name: str, handed: HandedListener) -> None:
        """Serve an agent on a listener that it has handed over; takes it over."""


class AgentGateways:
    """All gateways, as one of the kinds of sockets that agents have."""

    def __init__(self, door_of: Callable[[str], Path], gateways: Sequence[AgentGateway]) -> None:
        """`door_of` returns the path of an agent's door."""
        self._gateways = gateways
        self._sockets = HandedSockets(door_of, self._receive)

    def hold(self, name: str) -> None:
        """Have each gateway serve an agent as its configuration says. Raises `cannot_listen`."""
        for gateway in self._gateways:
            gateway.hold(name)
        if expected := self._expected(name):
            self._sockets.open(name, expected)
        else:
            self._sockets.release(name)

    def release(self, name: str) -> None:
        """End all that gateways do for an agent."""
        self._sockets.release(name)
        for gateway in self._gateways:
            gateway.release(name)

    def ports(self, name: str) -> Mapping[str, int]:
        """Return the ports on which the harness of an agent has to listen, by their purposes; 0 is any."""
        return {purpose: each.port for purpose, each in self._expected(name).items()}

    def hang_up(self, name: str) -> None:
        """Have the harness of an agent hand its listeners over anew."""
        self._sockets.hang_up(name)

    def close(self) -> None:
        """Close every door."""
        self._sockets.close()

    def _expected(self, name: str) -> Mapping[str, ExpectedListener]:
        return {purpose: each for gateway in self._gateways for purpose, each in gateway.listeners(name).items()}

    def _receive(self, name: str, handed: HandedListener) -> None:
        for gateway in self._gateways:
            expected = gateway.listeners(name).get(handed.purpose)
            if expected is not None and expected.port in (0, handed.listener.getsockname()[1]):
                gateway.receive(name, handed)
                return
        # Another configuration is in force since it was checked.
        close_apart(handed.listener.detach())
