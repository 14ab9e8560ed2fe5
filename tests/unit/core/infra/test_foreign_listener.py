"""Connections on listeners that somebody else holds, too."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator

import pytest

from hive_core.infra.foreign_listener import ForeignListener


class Accepting:
    """A foreign listener, the duplicate that its other holder has, and what was accepted."""

    def __init__(self) -> None:
        self.theirs = socket.create_server(("127.0.0.1", 0))
        self.accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.listener = ForeignListener(self.theirs.dup(), self.accepted.put_nowait, self.ended.set)

    def call(self) -> socket.socket:
        """Connect."""
        return socket.create_connection(self.theirs.getsockname(), timeout=10)

    async def next(self) -> socket.socket:
        """Wait for the next connection that was accepted."""
        return await asyncio.wait_for(self.accepted.get(), 10)


@pytest.fixture
async def accepting() -> AsyncIterator[Accepting]:
    """A listener that is closed at the end."""
    made = Accepting()
    yield made
    made.listener.close()
    made.theirs.close()
    while not made.accepted.empty():
        made.accepted.get_nowait().close()


async def test_every_connection_is_accepted(accepting: Accepting) -> None:
    """Each of many connections at once arrives, does not block, and leads to its caller."""
    callers = [accepting.call() for _ in range(100)]
    arrived = [await accepting.next() for _ in callers]
    by_port = {connection.getpeername()[1]: connection for connection in arrived}
    for caller in callers:
        connection = by_port.pop(caller.getsockname()[1])
        assert connection.gettimeout() == 0.0
        connection.send(b"hello")
        assert caller.recv(10) == b"hello"
        caller.close()
        connection.close()


async def test_a_holder_that_blocks_the_listener_blocks_nobody_else(accepting: Accepting) -> None:
    """The event loop and other listeners go on while the other holder makes accept wait, again and again."""
    hostile = True

    def block_and_steal() -> None:
        accepting.theirs.settimeout(0.001)
        while hostile:
            try:
                accepting.theirs.setblocking(True)  # It is that for all its duplicates.
                accepting.theirs.settimeout(0.001)
                accepting.theirs.accept()[0].close()
            except OSError:
                continue

    stealing = threading.Thread(target=block_and_steal)
    stealing.start()
    other = Accepting()
    try:
        for _ in range(200):
            accepting.call().close()
            caller = other.call()
            (await other.next()).close()
            caller.close()
    finally:
        hostile = False
        stealing.join()
        other.listener.close()
        other.theirs.close()


async def test_a_listener_that_waits_for_ever_is_closed(accepting: Accepting) -> None:
    """A thread that waits in accept ends with its listener."""
    threads = set(threading.enumerate())
    accepting.theirs.setblocking(True)
    caller = accepting.call()
    (await accepting.next()).close()
    caller.close()
    (waiting,) = set(threading.enumerate()) - threads
    accepting.listener.close()
    await asyncio.to_thread(waiting.join, 10)
    assert not waiting.is_alive()


async def test_an_unusable_listener_is_told(accepting: Accepting) -> None:
    """A listener that its other holder shuts down ends, once; no connection comes from it after that."""
    accepting.theirs.shutdown(socket.SHUT_RDWR)
    await asyncio.wait_for(accepting.ended.wait(), 10)
    assert accepting.accepted.empty()


@pytest.mark.parametrize("is_blocked", [False, True])
async def test_callers_wait_for_whoever_accepts_next(accepting: Accepting, *, is_blocked: bool) -> None:
    """A listener that was left goes on for its other holder, unless that makes an accept wait at the end."""
    accepting.call().close()
    (await accepting.next()).close()
    if is_blocked:
        accepting.theirs.setblocking(True)
        accepting.call().close()
        (await accepting.next()).close()  # And accept waits for another one.
    await accepting.listener.leave()
    if is_blocked:
        with pytest.raises(ConnectionRefusedError):
            accepting.call()
        return
    with accepting.call() as caller:
        taken, _ = accepting.theirs.accept()
        with taken:
            assert taken.getpeername() == caller.getsockname()
    assert accepting.accepted.empty()
