"""The daemon's side of a page's port: held, lent, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hive_core.api.lent_sockets import MAX_PENDING, PagePorts, lender
from hive_core.errors import HiveError
from tests.unit.core.infra.systemd.fake_descriptor_store import FakeDescriptorStore


@pytest.fixture
def place() -> Iterator[Path]:
    """Where `page.sock` is, with a short path."""
    with tempfile.TemporaryDirectory(prefix="hp") as home:
        yield Path(home) / "page.sock"


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def ports(place: Path) -> AsyncIterator[PagePorts]:
    """Those of a daemon with room for one agent."""
    made = PagePorts(lambda _: place)
    yield made
    made.close()


async def asking(place: Path) -> socket.socket:
    """Somebody who has asked for the port and not read the answer."""
    caller = socket.socket(socket.AF_UNIX)
    caller.setblocking(False)
    await asyncio.get_running_loop().sock_connect(caller, str(place))
    return caller


def taken(caller: socket.socket) -> list[socket.socket]:
    """What there is to read for a caller; blocking, for a thread."""
    caller.settimeout(20)
    with caller:
        with contextlib.suppress(ConnectionResetError):
            return [socket.socket(fileno=one) for one in socket.recv_fds(caller, 1, 4)[1]]
        return []


def mode(place: Path) -> int | None:
    """Of the socket; None if it is not there."""
    return stat.S_IMODE(place.lstat().st_mode) if place.exists() else None


async def lent(place: Path) -> list[socket.socket]:
    return await asyncio.to_thread(taken, await asking(place))


def thief(port: int) -> None:
    """Bind the port as boldly as one can."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()


async def test_what_is_lent_accepts(ports: PagePorts, place: Path, port: int) -> None:
    """Who comes to the port is taken by whoever was lent it, also if it came when nobody was there."""
    ports.hold("ann", port)
    assert mode(place) == 0o600
    with socket.create_connection(("127.0.0.1", port), 20) as early:
        [page] = await lent(place)
        with page:
            page.settimeout(20)
            accepted, address = await asyncio.to_thread(page.accept)
            with accepted:
                assert address == early.getsockname()


async def test_a_port_stays_the_daemons(ports: PagePorts, place: Path, port: int) -> None:
    """Nobody else can listen there before, while and after a harness has it; when it is released, anybody can."""
    ports.hold("ann", port)
    with pytest.raises(OSError, match="in use"):
        thief(port)
    [page] = await lent(place)
    with pytest.raises(OSError, match="in use"):
        thief(port)
    page.close()
    with pytest.raises(OSError, match="in use"):
        thief(port)
    ports.hold("ann", port)
    ports.release("ann")
    ports.release("ann")
    assert mode(place) is None
    thief(port)


@pytest.mark.parametrize("connected", [False, True])
async def test_a_socket_that_was_made_something_else(
    ports: PagePorts, place: Path, port: int, *, connected: bool
) -> None:
    """An agent that shuts down what it was lent, or connects it, is without it until the port is asked for again."""
    ports.hold("ann", port)
    [page] = await lent(place)
    page.shutdown(socket.SHUT_RDWR)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        if connected:
            page.setblocking(True)
            page.connect(elsewhere.getsockname())
        [again] = await lent(place)
        with again, socket.create_connection(("127.0.0.1", port), 20):
            again.settimeout(20)
            accepted, _ = await asyncio.to_thread(again.accept)
            accepted.close()
    page.close()


async def test_a_taken_port_is_refused_and_tried_again(
    ports: PagePorts, place: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal has a code; who asks at `page.sock` is hung up on, and lent the port at the next try after 10 s."""
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(HiveError) as refusal:
            ports.hold("ann", port)
        assert refusal.value.code == "page_port_taken" and str(port) in refusal.value.message
        assert await lent(place) == []
    assert await lent(place) == []
    monkeypatch.setattr(lender, "_ANEW_SECONDS", 0.0)
    [page] = await lent(place)
    with page:
        assert page.getsockname() == ("127.0.0.1", port)
    ports.hold("ann", port)


async def test_a_flood_is_bounded(ports: PagePorts, place: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many duplicates are under way for one agent, whatever it does with its ends; then it is hung up on. What
    was taken or thrown away makes room again.
    """
    monkeypatch.setattr(lender, "_CHECK_SECONDS", 0.02)
    ports.hold("ann", port)
    callers = [await asking(place) for _ in range(MAX_PENDING)]
    for caller in callers:
        await asyncio.to_thread(select.select, [caller], [], [], 20)
        caller.shutdown(socket.SHUT_RDWR)  # Half gone, and what was sent is still there for it to read.
    await asyncio.sleep(0.2)  # Time enough to look at them several times, and wrongly let them go.
    for _ in range(3 * MAX_PENDING):
        assert await lent(place) == []
    found = await asyncio.to_thread(taken, callers.pop())
    callers.pop().close()
    async with asyncio.timeout(20):
        while not (more := await lent(place)):
            await asyncio.sleep(0.02)
    for one in [*found, *more, *callers]:  # not before: they hold what was not read
        one.close()


async def test_an_old_socket_is_replaced(place: Path, port: int) -> None:
    """What a killed daemon left in the agent's directory is no obstacle to the next."""
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(place))
    ports = PagePorts(lambda _: place)
    ports.hold("ann", port)
    [page] = await lent(place)
    page.close()
    ports.close()


@pytest.mark.parametrize("shut_down", [False, True])
async def test_a_daemon_that_is_started_again_has_the_port(
    place: Path, port: int, monkeypatch: pytest.MonkeyPatch, *, shut_down: bool
) -> None:
    """Though a harness goes on to listen, the next daemon has the port by systemd; a port that is none is made anew."""
    systemd = FakeDescriptorStore(place.with_name("notify"), monkeypatch)
    doors = {"ann": place, "bob": place.with_name("bob.sock")}
    first = PagePorts(doors.__getitem__, systemd.start())
    first.hold("ann", port)
    first.hold("bob", 0)
    [page] = await lent(place)
    first.close()
    with page:
        without = PagePorts(doors.__getitem__)
        with pytest.raises(HiveError, match="cannot listen"):
            without.hold("ann", port)
        without.close()
        if shut_down:
            page.shutdown(socket.SHUT_RDWR)
        second = PagePorts(doors.__getitem__, systemd.start())
        second.hold("ann", port)
        second.forget_unused()
        [again] = await lent(place)
        with again:
            assert again.getsockname() == ("127.0.0.1", port)
            with pytest.raises(OSError, match="in use"):
                thief(port)
        systemd.receive()
        assert list(systemd.stored) == ["page-ann"]
    second.release("ann")
    systemd.receive()
    assert systemd.stored == {}
    second.close()
    systemd.close()
    thief(port)
