"""The daemon's side of view sockets: made in its own place, lent, and of no other use to an agent."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from hive_core.api.lent_sockets import UnixSockets, lender
from hive_core.errors import HiveError
from tests.unit.core.api.test_lent_sockets_ports import lent


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="hv") as home:
        yield Path(home)


@pytest.fixture
async def views(place: Path) -> AsyncIterator[UnixSockets]:
    """Those of a daemon with room for one agent."""
    made = UnixSockets("view socket", lambda _: place / "ann.sock", lambda _: place / "door", 0o660, os.getgid())
    yield made
    made.close()


def accepts(listener: socket.socket, path: Path) -> bool:
    """Return True if a caller of the path reaches the process that has the listener."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(20)
        caller.connect(str(path))
        listener.settimeout(20)
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"x")
        return caller.recv(1) == b"x"


async def test_what_is_lent_accepts(views: UnixSockets, place: Path) -> None:
    """The operator's group may connect to the socket, the agent alone to the door; who comes early waits."""
    views.hold("ann")
    views.hold("ann")
    found = (place / "ann.sock").lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getgid())
    assert stat.S_IMODE((place / "door").lstat().st_mode) == 0o600
    [listener] = await lent(place / "door")
    with listener:
        assert (listener.family, listener.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
        assert listener.getsockname() == str(place / "ann.sock")
        assert accepts(listener, place / "ann.sock")
    views.release("ann")
    views.release("ann")
    assert not (place / "ann.sock").exists() and not (place / "door").exists()


async def test_the_listener_is_of_no_other_use(views: UnixSockets, place: Path) -> None:
    """An agent can make of its duplicate no connection to another socket, and give it no other address."""
    views.hold("ann")
    [listener] = await lent(place / "door")
    with listener, socket.socket(socket.AF_UNIX) as host:
        host.bind(str(place / "host.sock"))
        host.listen()
        for _ in range(2):
            for act in (
                lambda: listener.connect(str(place / "host.sock")),
                lambda: listener.bind(str(place / "else")),
                lambda: listener.send(b"x"),
                lambda: listener.sendto(b"x", str(place / "host.sock")),
            ):
                with pytest.raises(OSError):
                    act()
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
async def test_a_listener_that_was_shut_down_is_replaced(views: UnixSockets, place: Path, how: int) -> None:
    """The daemon makes another socket when it is asked next, and its door anew, so that a harness asks again."""
    views.hold("ann")
    door = (place / "door").lstat()
    [broken] = await lent(place / "door")
    with broken:
        broken.shutdown(how)
        with pytest.raises(OSError):
            accepts(broken, place / "ann.sock")
        views.hold("ann")
        assert (place / "door").lstat().st_ctime_ns != door.st_ctime_ns
        [listener] = await lent(place / "door")
        with listener:
            assert accepts(listener, place / "ann.sock")


async def test_an_agent_gets_a_new_listener_now_and_then(
    views: UnixSockets, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that shuts its duplicate down again and again gets the next one after 10 s, or when the daemon holds it."""

    async def spoil() -> int:
        """Shut down what is lent; returns how many listeners that were."""
        spoilt = await lent(place / "door")
        for listener in spoilt:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        return len(spoilt)

    with structlog.testing.capture_logs() as logs:
        views.hold("ann")
        assert [await spoil() for _ in range(20)] == [1, 1] + [0] * 18
        assert [entry["event"] for entry in logs] == ["view socket made unusable, it is made anew"]
        views.hold("ann")
        assert [await spoil() for _ in range(3)] == [1, 0, 0]
        monkeypatch.setattr(lender, "_ANEW_SECONDS", 0.0)
        assert await spoil() == 1
    assert [entry["event"] for entry in logs] == ["view socket made unusable, it is made anew"] * 3


async def test_a_door_without_a_listener_tries_now_and_then(views: UnixSockets, place: Path) -> None:
    """Requests at the door of a daemon that cannot listen make it neither try nor log each time."""
    views.hold("ann")
    (place / "ann.sock").unlink()
    (place / "ann.sock").symlink_to(place / "else")
    with structlog.testing.capture_logs() as logs:
        assert [await lent(place / "door") for _ in range(20)] == [[]] * 20
    assert [entry["event"] for entry in logs].count("socket not lent to its agent") == 1


async def test_a_queue_of_no_length_is_made_long_again(views: UnixSockets, place: Path) -> None:
    """An agent that makes its queue short hinders nobody once the daemon has looked."""
    views.hold("ann")
    [listener] = await lent(place / "door")
    with listener:
        listener.listen(0)
        views.hold("ann")
        callers = [socket.socket(socket.AF_UNIX) for _ in range(8)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect(str(place / "ann.sock"))
            caller.close()


@pytest.mark.parametrize("other", ["nothing", "socket"])
async def test_a_path_that_leads_elsewhere_is_not_lent(views: UnixSockets, place: Path, other: str) -> None:
    """The daemon binds a new socket at a path that is gone, or is another socket's."""
    views.hold("ann")
    (place / "ann.sock").unlink()
    with socket.socket(socket.AF_UNIX) as stranger:
        if other == "socket":
            stranger.bind(str(place / "ann.sock"))
            stranger.listen()
        [listener] = await lent(place / "door")
        with listener:
            assert accepts(listener, place / "ann.sock")


async def test_a_link_at_the_path_is_refused(views: UnixSockets, place: Path) -> None:
    """No link is followed or removed there; it is the operator's to look at."""
    (place / "ann.sock").symlink_to(place / "else")
    with pytest.raises(HiveError) as refusal:
        views.hold("ann")
    assert refusal.value.code == "cannot_listen"
    assert (place / "ann.sock").is_symlink() and not (place / "else").exists()


async def test_a_daemon_leaves_the_socket_of_its_successor(place: Path) -> None:
    """A daemon that ends late removes only the socket that it has made."""
    old = UnixSockets("view socket", lambda _: place / "ann.sock", lambda _: place / "door", 0o600, None)
    old.hold("ann")
    new = UnixSockets("view socket", lambda _: place / "ann.sock", lambda _: place / "other", 0o600, None)
    new.hold("ann")
    old.close()
    assert (place / "ann.sock").is_socket()
    [listener] = await lent(place / "other")
    with listener:
        assert await asyncio.to_thread(accepts, listener, place / "ann.sock")
    new.close()


async def test_connections_at_the_door_are_bounded(
    views: UnixSockets, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection at the door stays open while the listener is the daemon's; one too many ends the oldest."""
    monkeypatch.setattr(lender, "_CHECK_SECONDS", 0.0)
    views.hold("ann")
    readers, writers = [], []
    for _ in range(lender.MAX_KEPT + 1):
        reader, writer = await asyncio.open_unix_connection(place / "door")
        readers.append(reader)
        writers.append(writer)
        assert await reader.readexactly(1) == b"\0"
    async with asyncio.timeout(20):
        assert await readers[0].read() == b""
    assert not any(reader.at_eof() for reader in readers[1:])
    views.release("ann")
    async with asyncio.timeout(20):
        assert [await reader.read() for reader in readers[1:]] == [b""] * lender.MAX_KEPT
    for writer in writers:
        writer.close()
