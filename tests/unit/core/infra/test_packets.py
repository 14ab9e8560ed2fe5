"""Packets between the daemon and its gateways."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hive_core.infra.packets import MOST_BYTES, PacketConnection, PacketRefused


def open_descriptors() -> set[str]:
    """The descriptors that this process has open."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def ends() -> Iterator[tuple[PacketConnection, socket.socket]]:
    """A connection, and the other end of it as a plain socket that does not block."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    there.setblocking(False)
    connection = PacketConnection(here)
    yield connection, there
    there.close()


async def test_packets_come_whole_with_their_descriptors(ends: tuple[PacketConnection, socket.socket]) -> None:
    """Each packet is received as it was sent, in order, and its descriptor is the same open file."""
    connection, there = ends
    other = PacketConnection(there)
    reading, writing = os.pipe()
    await other.send(b"first")
    await other.send(b"x" * MOST_BYTES, reading)
    await other.send(b"last")
    assert await connection.receive() == (b"first", None)
    data, descriptor = await connection.receive()
    assert (data, descriptor is None) == (b"x" * MOST_BYTES, False)
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    os.write(writing, b"through")
    assert os.read(descriptor, 10) == b"through"
    assert await connection.receive() == (b"last", None)
    for number in (reading, writing, descriptor):
        os.close(number)
    connection.close()


async def test_what_breaks_the_rules_is_discarded(ends: tuple[PacketConnection, socket.socket]) -> None:
    """A packet that is too long, or has many descriptors, is refused, leaves nothing open, and the next one arrives."""
    connection, there = ends
    before = open_descriptors()
    there.send(b"x" * (MOST_BYTES + 1))
    for number in (2, 8, 100):
        rights = array.array("i", [0] * number)
        there.sendmsg([b"many"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    there.send(b"good")
    for _ in range(4):
        with pytest.raises(PacketRefused):
            await connection.receive()
    assert await connection.receive() == (b"good", None)
    # Garbage of other tests may have been closed meanwhile.
    assert open_descriptors() <= before
    for wrong in (b"", b"x" * (MOST_BYTES + 1)):
        with pytest.raises(ValueError, match="bytes"):
            await connection.send(wrong)
    connection.close()


async def test_a_sender_waits_for_a_slow_reader(ends: tuple[PacketConnection, socket.socket]) -> None:
    """Packets beyond the kernel's buffer wait until they are read; none is lost, and none overtakes another."""
    connection, there = ends
    other = PacketConnection(there)
    sending = asyncio.gather(*(other.send(b"%d " % number + b"x" * 60_000) for number in range(50)))
    received = [int((await connection.receive())[0].split()[0]) for _ in range(50)]
    await sending
    assert received == list(range(50))
    connection.close()


@pytest.mark.parametrize("closes", ["there", "here"])
async def test_the_end_is_seen(ends: tuple[PacketConnection, socket.socket], closes: str) -> None:
    """A task that waits for a packet, or for room, hears of the connection's end at once, whichever end closes it."""
    connection, there = ends
    other = PacketConnection(there)
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(connection.receive())]
    waiting += [asyncio.create_task(connection.send(b"x" * 60_000)) for _ in range(20)]
    while connection._sending.locked() is False:
        await asyncio.sleep(0)
    (other if closes == "there" else connection).close()
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert isinstance(ended[0], ConnectionError)
    assert isinstance(ended[-1], ConnectionError)
    connection.close()
