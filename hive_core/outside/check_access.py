"""The world outside for checks of proposed work, as far as the rules of their repository allow it.

A check is a guest of the proxy for as long as it runs. Its code is an agent's: it reaches what the operator has allowed
for the repository, and not what the agent may reach.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from hive_core.errors import HiveError
from hive_core.outside.egress_gateway import PROXY_PORT, EgressGateway
from hive_core.outside.network.network import Network
from hive_core.outside.network.texts import REASONS
from hive_core.protocol.network.packets import EndedPacket, FromEgress, RefusedPacket
from hive_core.protocol.network.policy import EgressPolicy
from hive_core.runtimes.checks.order import WayOut
from hive_core.text import Quoted

_PROXY_SECONDS = 20.0
"""The time in which a proxy that is being started has to be there."""
_LAST_WORD_SECONDS = 5.0
_MAX_LINES = 50
_WIDTH = 300


class CheckAccess:
    """Makes guests of checks."""

    def __init__(self, egress: EgressGateway, network: Network) -> None:
        self._egress = egress
        self._network = network

    async def open(self, label: str, hosts: Sequence[str], say: Callable[[str], None]) -> CheckGuest:
        """Let a check reach hosts from now on; `say` gets a line about each that is refused to it.

        Raises `cannot_check` if there is no proxy.
        """
        guest = CheckGuest(self._egress, f"check/{label}", lambda: self._network.policy_for_check(hosts), say)
        try:
            async with asyncio.timeout(_PROXY_SECONDS):
                await self._egress.wait_connected()
        except TimeoutError:
            await guest.close()
            why = "the proxy through which the check reaches its hosts does not run"
            raise HiveError("cannot_check", why, hint="see: systemctl status hive-egress", status=503) from None
        return guest


class CheckGuest:
    """One check at the proxy."""

    def __init__(
        self, egress: EgressGateway, name: str, policy: Callable[[], EgressPolicy], say: Callable[[str], None]
    ) -> None:
        self.way_out = WayOut(PROXY_PORT, self._give)
        self._egress = egress
        self._name = name
        self._policy = policy
        self._say = say
        self._lines = 0
        self._ended = asyncio.Event()
        egress.welcome(name, self)

    async def close(self) -> None:
        """End the access, and wait for what the proxy has not told yet."""
        self._egress.dismiss(self._name)
        if self._egress.is_connected:
            try:
                async with asyncio.timeout(_LAST_WORD_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                pass
        self._egress.forget(self._name)

    def policy(self) -> EgressPolicy:
        """Return what the check may reach now."""
        return self._policy()

    def heard(self, packet: FromEgress) -> None:
        """Say what was refused. The names of hosts are words of the check."""
        if isinstance(packet, EndedPacket):
            self._ended.set()
        if not isinstance(packet, RefusedPacket) or self._lines > _MAX_LINES:
            return
        self._lines += 1
        if self._lines > _MAX_LINES:
            self._say("refused: more hosts, which are not listed")
            return
        where = Quoted(f"{packet.host}:{packet.port}").line(_WIDTH) if packet.host else "other hosts"
        times = "" if packet.count == 1 else f", {packet.count} times"
        missing = Quoted(packet.missing).line(_WIDTH) if packet.missing else ""
        rule = f"; no check of this repository may reach {missing} (--check-host)" if missing else ""
        self._say(f"refused{times}: {where}: {REASONS.get(packet.reason, packet.reason)}{rule}")

    def _give(self, listener: socket.socket) -> None:
        self._egress.give_listener(self._name, listener)
