"""The daemon's end of the connection to a gateway."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.infra.packets import MOST_BYTES, PacketConnection, connect
from hive_core.outside.gateway_link import GatewayLink


class Daemon:
    """A link that runs, and what a gateway has said on it."""

    def __init__(self, place: Path) -> None:
        self.path = place / "gateway.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self.path))
        listener.listen(4)
        self.said: asyncio.Queue[bytes] = asyncio.Queue()
        self.link = GatewayLink(listener, b"synced", self.hear)
        self.running = asyncio.create_task(self.link.run())

    async def hear(self, packet: bytes) -> None:
        """Take a packet of the gateway's; one of the tests is malformed."""
        if packet == b"malformed":
            raise ValueError("malformed")
        self.reply = self.link.reply
        self.said.put_nowait(packet)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A daemon's end."""
    with tempfile.TemporaryDirectory(prefix="hg") as place:
        made = Daemon(Path(place))
        yield made
        made.running.cancel()
        await asyncio.wait([made.running])


async def told(gateway: PacketConnection, last: bytes) -> list[bytes]:
    """Return what a gateway is told up to this packet; a packet with a descriptor ends with its inode."""
    packets: list[bytes] = []
    async with asyncio.timeout(20):
        while not packets or packets[-1] != last:
            packet, descriptor = await gateway.receive()
            if descriptor is not None:
                packet += b" %d" % os.fstat(descriptor).st_ino
                os.close(descriptor)
            packets.append(packet)
    return packets


async def test_each_gateway_is_told_everything_and_then_what_changes(daemon: Daemon) -> None:
    """Agents come with their descriptions and listeners, then `synced`; the next gateway is told the latest of all."""
    link = daemon.link
    listener = socket.socket()
    known = b"listener 1 %d" % os.fstat(listener.fileno()).st_ino
    link.tell_first([b"provider"])
    link.describe("ann", b"ann 1")
    link.give("ann", "proxy", b"listener 1", listener)
    gateway = connect(daemon.path)
    assert await told(gateway, b"synced") == [b"provider", b"ann 1", known, b"synced"]
    link.describe("ann", b"ann 2")
    link.describe("bob", b"bob 1")
    link.end_connections("ann", b"end ann")
    link.forget("bob", b"gone bob")
    link.describe("bob", b"bob 2")
    assert await told(gateway, b"bob 2") == [b"ann 2", b"end ann", b"gone bob", b"bob 2"]
    gateway.close()
    gateway = connect(daemon.path)
    assert await told(gateway, b"synced") == [b"provider", b"ann 2", known, b"bob 2", b"synced"]
    other = connect(daemon.path)  # One that was started before the end of the last one was seen.
    assert (await told(other, b"synced"))[-1] == b"synced"
    with pytest.raises(ConnectionError):
        await gateway.receive()
    gateway.close()
    other.close()


async def test_listeners_that_are_not_wanted_any_more(daemon: Daemon) -> None:
    """A listener that was dropped is closed, and no gateway hears of it any more."""
    link = daemon.link
    listeners = {purpose: socket.socket() for purpose in ("proxy", "service:a", "service:b")}
    kept = b"proxy %d" % os.fstat(listeners["proxy"].fileno()).st_ino
    link.describe("ann", b"ann 1")
    for purpose, listener in listeners.items():
        link.give("ann", purpose, purpose.encode(), listener)
    gateway = connect(daemon.path)
    assert len(await told(gateway, b"synced")) == 5
    replaced = socket.socket()
    link.give("ann", "service:a", b"not told", replaced)
    link.drop_listeners("ann", lambda purpose, listener: purpose == "proxy" and listener is listeners["proxy"])
    link.drop_listeners("unknown", lambda *_: False)
    link.describe("ann", b"ann 2")
    assert await told(gateway, b"ann 2") == [b"ann 2"]
    assert [each.fileno() for each in (listeners["service:b"], replaced)] == [-1, -1]
    gateway.close()
    gateway = connect(daemon.path)
    assert await told(gateway, b"synced") == [b"ann 2", kept, b"synced"]
    gateway.close()


async def test_a_slow_gateway_is_told_the_latest_only(daemon: Daemon) -> None:
    """A gateway that does not read makes nothing grow: of each agent it is told the newest when it reads again."""
    gateway = connect(daemon.path)
    await told(gateway, b"synced")
    for number in range(1_000):
        daemon.link.describe("ann", b"%d " % number + b"x" * 60_000)
        await asyncio.sleep(0)
    daemon.link.describe("ann", b"last")
    assert len(await told(gateway, b"last")) < 50
    gateway.close()


async def test_an_end_of_connections_comes_after_what_it_is_for(daemon: Daemon) -> None:
    """Connections are ended by the newest description, also if the end of others waits to be told."""
    gateway = connect(daemon.path)
    await told(gateway, b"synced")
    daemon.link.end_connections("ann", b"end")
    daemon.link.describe("ann", b"ann 2")
    daemon.link.end_connections("ann", b"end")
    daemon.link.describe("bob", b"last")
    assert await told(gateway, b"last") == [b"ann 2", b"end", b"last"]
    gateway.close()


async def test_what_cannot_be_told_ends_the_connection(daemon: Daemon) -> None:
    """A gateway that cannot be told of a change does not go on with what it knew: its connection ends."""
    gateway = connect(daemon.path)
    await told(gateway, b"synced")
    daemon.link.describe("ann", bytes(MOST_BYTES + 1))
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(gateway.receive(), 20)
    gateway.close()


async def test_a_listener_that_cannot_be_given_keeps_nothing_back(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel takes no descriptor, as agents may have used up what is allowed, the rest is told meanwhile."""
    send = PacketConnection.send
    failed: list[bytes] = []

    async def fail_once(connection: PacketConnection, data: bytes, descriptor: int | None = None) -> None:
        if descriptor is not None and not failed:
            failed.append(data)
            raise OSError(errno.ETOOMANYREFS, "too many references")
        await send(connection, data, descriptor)

    monkeypatch.setattr(PacketConnection, "send", fail_once)
    monkeypatch.setattr("hive_core.outside.gateway_link._AGAIN_SECONDS", 0.01)
    listener = socket.create_server(("127.0.0.1", 0))
    inode = os.fstat(listener.fileno()).st_ino
    daemon.link.describe("ann", b"ann")
    daemon.link.give("ann", "proxy", b"listener", listener)
    gateway = connect(daemon.path)
    assert await told(gateway, b"synced") == [b"ann", b"synced"]
    assert await told(gateway, b"listener %d" % inode) == [b"listener %d" % inode]
    gateway.close()


async def test_a_gateway_is_heard_and_answered(daemon: Daemon) -> None:
    """Packets of a gateway arrive in order and are answered; one that breaks the protocol is cut off."""
    gateway = connect(daemon.path)
    await told(gateway, b"synced")
    assert daemon.link.is_connected
    for number in range(10):
        await gateway.send(b"%d" % number)
    assert [await asyncio.wait_for(daemon.said.get(), 20) for _ in range(10)] == [b"%d" % n for n in range(10)]
    await daemon.reply(b"answer")
    assert await told(gateway, b"answer") == [b"answer"]
    await gateway.send(b"malformed")
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(gateway.receive(), 20)
    gateway.close()
    assert not daemon.link.is_connected
    with pytest.raises(ConnectionError):
        await daemon.reply(b"answer")
    gateway = connect(daemon.path)
    await told(gateway, b"synced")
    with pytest.raises(ConnectionError):  # It was for the last one.
        await daemon.reply(b"answer")
    gateway.close()
