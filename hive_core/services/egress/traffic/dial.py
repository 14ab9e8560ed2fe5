"""Connections to hosts: look-up, check of the addresses, and a race between those that are left (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from typing import NamedTuple

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from hive_core.infra.concurrency.threads import Threads
from hive_core.services.egress.agent import EgressAgent
from hive_core.services.egress.checks.addresses import AddressTable
from hive_core.services.egress.checks.decision import EgressRefusal

_LOOKUP_THREADS = 32
_KEPT_SECONDS = 10.0
_KEPT_FAILURE_SECONDS = 2.0
_MAX_KEPT = 4_096
_MAX_ADDRESSES = 16
_LOOKUP_SECONDS = 20.0
_CONNECT_SECONDS = 30.0
_DELAY_SECONDS = 0.25
"""Until another address is tried beside one that does not answer."""


class Unreachable(Exception):
    """The reason why a host is not reached; a sentence. `status` is that of the answer."""

    def __init__(self, why: str, status: int = 502) -> None:
        super().__init__(why)
        self.status = status


class AddressRefused(Exception):
    """All addresses of a host are refused."""

    def __init__(self, refusal: EgressRefusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class _Kept(NamedTuple):
    until: float
    found: list[AddrInfoType]
    failure: str


class Dialer:
    """Connects to hosts that were allowed. Only addresses that were checked are connected to."""

    def __init__(self, table: AddressTable) -> None:
        self._table = table
        self._threads = Threads("lookups", _LOOKUP_THREADS)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._pending: dict[tuple[str, str], asyncio.Future[_Kept]] = {}

    async def connect(self, agent: EgressAgent, host: str, port: int) -> socket.socket:
        """Return a connection to a host, which is in the normal spelling.

        Raises Unreachable, and AddressRefused.
        """
        kept = self._kept.get(host)
        if kept is None or kept.until < asyncio.get_running_loop().time():
            kept = await self._look_up(agent, host)
        if kept.failure:
            raise Unreachable(f"{host} was not found: {kept.failure}")
        allowed: list[AddrInfoType] = []
        why = ""
        for family, kind, protocol, name, address in kept.found:
            refused = self._table.why_refused(address[0])
            if refused is None:
                place = (address[0], port) if family == socket.AF_INET else (address[0], port, 0, 0)
                allowed.append((family, kind, protocol, name, place))
            else:
                why = f"its address {address[0]} is {refused}"
        if not allowed:
            raise AddressRefused(EgressRefusal("refused_address", host, port, detail=why))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await _connect(allowed)
        except TimeoutError:
            raise Unreachable(f"{host} port {port} does not answer", 504) from None
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise Unreachable(f"{host} port {port} does not answer: {why}") from None

    async def _look_up(self, agent: EgressAgent, host: str) -> _Kept:
        """Look a name up; connections of an agent that ask for the same one meanwhile wait for the same answer."""
        key = (agent.name, host)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = asyncio.ensure_future(self._ask(agent, host))
            pending.add_done_callback(lambda _: self._pending.pop(key, None))
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                return await asyncio.shield(pending)
        except TimeoutError:
            raise Unreachable(f"the name servers do not answer for {host}", 504) from None

    async def _ask(self, agent: EgressAgent, host: str) -> _Kept:
        failure, found = "", []
        async with agent.lookups:
            try:
                found = await self._threads.run(_addresses, host)
            except socket.gaierror as error:
                failure = error.strerror or "no answer"
        until = asyncio.get_running_loop().time() + (_KEPT_FAILURE_SECONDS if failure else _KEPT_SECONDS)
        kept = self._kept[host] = _Kept(until, found[:_MAX_ADDRESSES], failure)
        self._kept.move_to_end(host)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return kept


def _addresses(host: str) -> list[AddrInfoType]:
    # The dot at the end keeps the resolver from trying the name below the domains of this host.
    found = socket.getaddrinfo(f"{host}.", 0, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [each for each in found if each[0] in (socket.AF_INET, socket.AF_INET6)]


async def _connect(addresses: list[AddrInfoType]) -> socket.socket:
    loop = asyncio.get_running_loop()
    if len(addresses) > 1:
        connection = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_DELAY_SECONDS, interleave=1, loop=loop
        )
    else:
        ((family, kind, protocol, _, address),) = addresses
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
        except BaseException:
            connection.close()
            raise
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
