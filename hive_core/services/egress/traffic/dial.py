"""Connections to hosts: look-up, check of the addresses, and a race between those that are left (RFC 8305)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import OrderedDict
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

from hive_core.infra.concurrency.threads import Threads
from hive_core.protocol.network.services import ServiceAddress
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
_LOOPBACK: list[tuple[int, str]] = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
"""The addresses of `localhost`, which no name server is asked for (RFC 6761, section 6.3)."""


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


class Address(NamedTuple):
    """An address to connect to: `place` is in the form that its family has."""

    family: int
    place: tuple[str, int] | tuple[str, int, int, int]


class _Kept(NamedTuple):
    until: float
    found: list[tuple[int, str]]
    failure: str


class Dialer:
    """Connects to hosts that were allowed, at addresses that were checked, and to services of the operator's."""

    def __init__(self, table: AddressTable) -> None:
        self._table = table
        self._threads = Threads("lookups", _LOOKUP_THREADS)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._pending: dict[tuple[str, str], asyncio.Future[_Kept]] = {}

    async def connect(self, agent: EgressAgent, host: str, port: int) -> socket.socket:
        """Return a connection to a host, which is in the normal spelling.

        Raises Unreachable, and AddressRefused.
        """
        allowed: list[Address] = []
        why = ""
        # The dot at the end keeps the resolver from trying the name below the domains of this host.
        for family, address in await self._find(agent, f"{host}."):
            refused = self._table.why_refused(address)
            if refused is None:
                allowed.append(_address(family, address, port))
            else:
                why = f"its address {address} is {refused}"
        if not allowed:
            raise AddressRefused(EgressRefusal("refused_address", host, port, detail=why))
        return await _connect_in_time(allowed, f"{host} port {port}")

    async def connect_service(self, agent: EgressAgent, service: ServiceAddress) -> socket.socket:
        """Return a connection to a service that the operator offers, whatever its address is. Raises Unreachable."""
        host, port = service
        found: list[tuple[int, str]]
        if ":" in host:
            found = [(socket.AF_INET6, host)]
        elif host.rpartition(".")[2].isdigit():
            found = [(socket.AF_INET, host)]
        else:
            found = _LOOPBACK if host == "localhost" else await self._find(agent, host)
        if not found:
            raise Unreachable(f"{host} has no address")
        return await _connect_in_time([_address(family, each, port) for family, each in found], str(service))

    async def _find(self, agent: EgressAgent, host: str) -> list[tuple[int, str]]:
        """Return the addresses of a name, the families with them. Raises Unreachable."""
        kept = self._kept.get(host)
        if kept is None or kept.until < asyncio.get_running_loop().time():
            kept = await self._look_up(agent, host)
        if kept.failure:
            raise Unreachable(f"{host.removesuffix('.')} was not found: {kept.failure}")
        return kept.found

    async def _look_up(self, agent: EgressAgent, host: str) -> _Kept:
        """Look a name up; connections of an agent that ask for the same one meanwhile wait for the same answer."""
        key = (agent.name, host)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = asyncio.ensure_future(self._ask(agent, host))
            pending.add_done_callback(partial(self._looked_up, key))
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                return await asyncio.shield(pending)
        except TimeoutError:
            raise Unreachable(f"the name servers do not answer for {host.removesuffix('.')}", 504) from None

    def _looked_up(self, key: tuple[str, str], done: asyncio.Future[_Kept]) -> None:
        self._pending.pop(key, None)
        if not done.cancelled():
            done.exception()  # Seen, also if nobody waits any more.

    async def _ask(self, agent: EgressAgent, host: str) -> _Kept:
        failure, found = "", []
        # Nobody waits any longer for names behind many slow ones: they would pile up.
        async with asyncio.timeout(_LOOKUP_SECONDS):
            await agent.lookups.acquire()
        try:
            found = await self._threads.run(_addresses, host)
        except socket.gaierror as error:
            failure = error.strerror or "no answer"
        finally:
            agent.lookups.release()
        until = asyncio.get_running_loop().time() + (_KEPT_FAILURE_SECONDS if failure else _KEPT_SECONDS)
        kept = self._kept[host] = _Kept(until, found[:_MAX_ADDRESSES], failure)
        self._kept.move_to_end(host)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return kept


def _addresses(host: str) -> list[tuple[int, str]]:
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    families = (socket.AF_INET, socket.AF_INET6)
    return [(family, str(place[0])) for family, _, _, _, place in found if family in families]


def _address(family: int, address: str, port: int) -> Address:
    return Address(family, (address, port) if family == socket.AF_INET else (address, port, 0, 0))


async def _connect_in_time(addresses: list[Address], what: str) -> socket.socket:
    """Return a connection to one of the addresses, which are those of `what`. Raises Unreachable."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await _connect_first(addresses)
    except TimeoutError:
        raise Unreachable(f"{what} does not answer", 504) from None
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise Unreachable(f"{what} does not answer: {why}") from None


async def _connect_first(addresses: list[Address]) -> socket.socket:
    """Return a connection to the address that answers first; the next one is tried when one is slow or has failed.

    Raises OSError of the last address if none answers.
    """
    if len(addresses) == 1:
        return await _connect(addresses[0])
    waiting = _interleave(addresses)
    tries: set[asyncio.Task[socket.socket]] = set()
    failure = OSError("no address")
    try:
        while waiting or tries:
            if waiting:
                tries.add(asyncio.create_task(_connect(waiting.pop(0))))
            ended, tries = await asyncio.wait(
                tries, timeout=_DELAY_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for each in ended:
                error = each.exception()
                if error is None:
                    tries |= ended - {each}
                    return each.result()
                if isinstance(error, OSError):
                    failure = error
        raise failure
    finally:
        for each in tries:
            each.cancel()
            each.add_done_callback(_close_connection)


async def _connect(address: Address) -> socket.socket:
    """Return a connection to one address. Raises OSError.

    The event loop's own function would look the address up, in a thread.
    """
    connection = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    try:
        number = connection.connect_ex(address.place)
        if number == errno.EINPROGRESS:
            loop = asyncio.get_running_loop()
            answered: asyncio.Future[None] = loop.create_future()
            loop.add_writer(connection, _settle, answered)
            try:
                await answered
            finally:
                loop.remove_writer(connection)
            number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _settle(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)


def _close_connection(task: asyncio.Task[socket.socket]) -> None:
    """Close the connection of a try that another one has preceded."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _interleave(addresses: list[Address]) -> list[Address]:
    """Return the addresses in their order, but with the families in turns, beginning with that of the first."""
    first = [each for each in addresses if each.family == addresses[0].family]
    other = [each for each in addresses if each.family != addresses[0].family]
    pairs = zip_longest(first, other)
    return [each for pair in pairs for each in pair if each is not None]
