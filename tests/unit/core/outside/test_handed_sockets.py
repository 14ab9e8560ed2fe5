"""Listeners that agents hand to the daemon: only those on the loopback of a sealed agent are taken."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hive_agent.client.handed import OwnListener, keep_handing_over, listen
from hive_core.outside.handed_sockets import ExpectedListener, HandedSockets, checked_listener
from hive_core.outside.handover_door import HandedListener, NotAcceptable
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap

PORT = 3128
PROXY = ExpectedListener(PORT)
RELAY = ExpectedListener(0, of_host=True)
pytestmark = pytest.mark.skipif(bool(why_no_bubblewrap()), reason=why_no_bubblewrap() or "bubblewrap works")

SEALED = """
import socket, sys
code, descriptor = sys.argv[1], int(sys.argv[2])
select_writable = lambda made: bool(__import__("select").select([], [made], [], 0.1)[1])
made = eval(code)
made = made if isinstance(made, tuple) else (made,)
with socket.socket(fileno=descriptor) as outside:
    socket.send_fds(outside, [b"x"], [made[0].fileno()])
    made[0].close()
    outside.send(b"y")
    outside.recv(1)
"""
LISTENER = "socket.create_server(('127.0.0.1', 3128))"


@contextmanager
def made_in_a_sealed_network(code: str) -> Iterator[int]:
    """A descriptor of what an expression gives in a network with nothing but a loopback."""
    here, there = socket.socketpair()
    line = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", sys.executable, "-c", SEALED, code]
    with subprocess.Popen([*line, str(there.fileno())], pass_fds=[there.fileno()]) as process:
        there.close()
        _, [descriptor], _, _ = socket.recv_fds(here, 1, 1)
        here.recv(1)  # There is no other duplicate now.
        try:
            yield descriptor
        finally:
            with suppress(OSError):
                os.close(descriptor)
            here.close()
            process.wait(20)


def test_a_listener_of_a_sealed_agent_is_taken() -> None:
    """A listener on the right port of another network's loopback is what it should be, and accepts from there."""
    with made_in_a_sealed_network(LISTENER) as descriptor:
        with checked_listener(os.dup(descriptor), PROXY) as listener:
            assert listener.getsockname() == ("127.0.0.1", PORT)
        with pytest.raises(NotAcceptable, match="port 3129"):
            checked_listener(descriptor, ExpectedListener(3129))
        os.fstat(descriptor)  # It is still open: whoever asked closes it.


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("open('/dev/null')", "no socket"),
        ("__import__('select').epoll()", "no socket"),
        ("socket.socket()", "does not listen"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "not TCP"),
        ("socket.socket(socket.AF_UNIX)", "not TCP"),
        ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "not TCP"),
        ("socket.socketpair()", "not TCP"),
        ("socket.create_server(('::1', 3128), family=socket.AF_INET6)", "not TCP"),
        ("socket.create_server(('0.0.0.0', 3128))", "does not listen on port 3128 of 127.0.0.1"),
        ("socket.create_server(('127.0.0.2', 3128))", "does not listen on port 3128 of 127.0.0.1"),
        (f"(lambda s: (socket.create_connection(('127.0.0.1', 3128)), s))({LISTENER})", "does not listen"),
        (
            "(lambda s: (s.bind(('127.0.0.1', 3128)), s.listen(), s)[-1])"
            "(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))",
            "not TCP",
        ),
    ],
)
def test_other_descriptors_are_refused(code: str, why: str) -> None:
    """Files, sockets of other kinds, other addresses, and connections are refused with the reason."""
    if "262" in code and not Path("/proc/sys/net/mptcp/enabled").exists():
        pytest.skip("this kernel has no MPTCP")
    with made_in_a_sealed_network(code) as descriptor, pytest.raises(NotAcceptable, match=why):
        checked_listener(descriptor, PROXY)


def test_a_listener_of_the_hosts_network_is_refused() -> None:
    """A listener of this host's loopback is refused, although port and address are right."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(NotAcceptable, match="the host's network"):
        checked_listener(listener.fileno(), ExpectedListener(listener.getsockname()[1]))


def test_an_agent_with_the_hosts_network_hands_over_a_port_of_the_host() -> None:
    """Of it a listener on any port of the host's loopback is taken, and none of another address or network."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        checked_listener(os.dup(listener.fileno()), RELAY) as taken,
    ):
        assert taken.getsockname() == listener.getsockname()
    with made_in_a_sealed_network(LISTENER) as descriptor, pytest.raises(NotAcceptable, match="another network"):
        checked_listener(descriptor, RELAY)
    with socket.create_server(("0.0.0.0", 0)) as listener, pytest.raises(NotAcceptable, match=r"of 127\.0\.0\.1"):
        checked_listener(listener.fileno(), RELAY)


class Doors:
    """The door of an agent ann, and what came through it."""

    def __init__(self, place: Path) -> None:
        self.path = place / "world.sock"
        self.received: asyncio.Queue[tuple[str, HandedListener]] = asyncio.Queue()
        self.sockets = HandedSockets(lambda _: self.path, lambda *received: self.received.put_nowait(received))

    async def next(self) -> tuple[str, HandedListener]:
        """Wait for the next listener, and its agent."""
        return await asyncio.wait_for(self.received.get(), 20)


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    """A door that is open."""
    with tempfile.TemporaryDirectory(prefix="hg") as place:
        made = Doors(Path(place))
        made.sockets.open("ann", {"proxy": PROXY})
        yield made
        made.sockets.close()
        assert not made.path.exists()


async def test_listeners_are_handed_to_each_daemon(doors: Doors) -> None:
    """A harness hands its listeners over, and again to the next daemon; the port leads to the same agent."""
    with made_in_a_sealed_network(LISTENER) as descriptor, socket.socket(fileno=os.dup(descriptor)) as listener:
        handing = asyncio.create_task(keep_handing_over(doors.path, {"proxy": OwnListener(listener)}))
        for _ in range(2):
            name, received = await doors.next()
            assert (name, received.purpose, received.key) == ("ann", "proxy", "")
            assert received.listener.getsockname() == ("127.0.0.1", PORT)
            received.listener.close()
            doors.sockets.close()
            doors.sockets.open("ann", {"proxy": PROXY})
        handing.cancel()


async def test_what_else_comes_through_a_door_is_refused(doors: Doors) -> None:
    """Junk at a door leaves nothing open, is logged once, and the next listener is taken."""

    def connected() -> socket.socket:
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        caller.connect(str(doors.path))
        return caller

    with made_in_a_sealed_network(LISTENER) as descriptor, capture_logs() as logs:
        with connected() as caller:
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - their number
            for packet, given in (
                (b"{}", [descriptor]),
                (b"\xff", [descriptor]),
                (b'{"purpose": "relay"}', [descriptor]),
                (b'{"purpose": "proxy", "port": 1}', [descriptor]),
                (b'{"purpose": "proxy", "key": "%s"}' % (b"x" * 40), [descriptor]),
                (b'{"purpose": "proxy"}', []),
                (b'{"purpose": "proxy"}', [descriptor, descriptor]),
                (b'{"purpose": "proxy"}', [0]),
                (b'{"purpose": "proxy"}', [descriptor]),
            ):
                socket.send_fds(caller, [packet], given)
            (await doors.next())[1].listener.close()
            assert len(os.listdir("/proc/self/fd")) - before <= 1  # noqa: PTH208 - the door's end of the connection
        assert [entry["event"] for entry in logs] == ["what an agent handed over is refused"]
        crowd = [connected() for _ in range(3)]
        socket.send_fds(crowd[-1], [b'{"purpose": "proxy"}'], [descriptor])
        (await doors.next())[1].listener.close()
        crowd[0].settimeout(20)
        assert await asyncio.to_thread(_ended, crowd[0])
        for each in crowd:
            each.close()


LINGERING = (
    "(lambda s: (c := socket.create_connection(('127.0.0.1', 3128)), c.setblocking(False),"
    " c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, __import__('struct').pack('ii', 1, 20)),"
    " [0 for _ in iter(lambda: select_writable(c) and c.send(b'x' * 65536), False)], c, s)[4:])"
    f"({LISTENER})"
)


async def test_descriptors_whose_end_takes_long_stop_nobody(doors: Doors) -> None:
    """A connection that would linger when it is closed keeps the daemon from nothing, received or not."""
    with made_in_a_sealed_network(LINGERING) as descriptor:
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with caller:
            caller.connect(str(doors.path))
            for _ in range(2):
                socket.send_fds(caller, [b'{"purpose": "proxy"}'], [descriptor])
            os.dup2(0, descriptor)  # The door has the last duplicates now.
            longest, before = 0.0, time.monotonic()
            with capture_logs() as logs:
                while not logs:
                    await asyncio.sleep(0.01)
                    longest, before = max(longest, time.monotonic() - before), time.monotonic()
            doors.sockets.close()
            await asyncio.sleep(0)
            assert max(longest, time.monotonic() - before) < 2


async def test_a_harness_hands_over_anew_what_was_lost(doors: Doors) -> None:
    """A listener that somebody in the agent has shut down listens again when the daemon hangs up."""
    with made_in_a_sealed_network(LISTENER) as descriptor, socket.socket(fileno=os.dup(descriptor)) as listener:
        handing = asyncio.create_task(keep_handing_over(doors.path, {"proxy": OwnListener(listener)}))
        (await doors.next())[1].listener.close()
        listener.shutdown(socket.SHUT_RDWR)
        doors.sockets.hang_up("ann")
        (await doors.next())[1].listener.close()
        handing.cancel()


async def test_a_listener_of_the_hosts_network_comes_with_a_key(doors: Doors) -> None:
    """The harness of an agent with the host's network hands a port and its key over; without a key it is refused."""
    doors.sockets.open("ann", {"relay": RELAY})
    with listen(0) as listener, capture_logs() as logs:
        for key in ("", "short"):
            handing = asyncio.create_task(keep_handing_over(doors.path, {"relay": OwnListener(listener, key)}))
            while not logs:
                await asyncio.sleep(0.01)
            handing.cancel()
        key = "k" * 43
        handing = asyncio.create_task(keep_handing_over(doors.path, {"relay": OwnListener(listener, key)}))
        name, received = await doors.next()
        handing.cancel()
        assert (name, received.purpose, received.key) == ("ann", "relay", key)
        assert received.listener.getsockname() == listener.getsockname()
        received.listener.close()


def _ended(caller: socket.socket) -> bool:
    try:
        return caller.recv(1) == b""
    except ConnectionError:
        return True
