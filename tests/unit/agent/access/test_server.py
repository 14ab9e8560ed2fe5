"""The program that serves an agent's sessions, as a process of its own, on a socket that a daemon lends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hive_core.api.lent_sockets import UnixSockets
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import Frame, FrameReader
from hive_core.protocol.access.opening import Opening

ROOT = Path(__file__).parents[4]
SECONDS = 60


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="hv") as home:
        yield Path(home)


@pytest.fixture
async def sockets(place: Path) -> AsyncIterator[UnixSockets]:
    """The access sockets of a daemon with one agent."""
    made = UnixSockets("access socket", lambda _: place / "ada.sock", lambda _: place / "access.sock", 0o600)
    made.hold("ada")
    yield made
    made.close()


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[None]:
    """Run the program, with the agent's directories below a temporary one."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HIVE_AGENT_RUN": str(directory),
        "HIVE_AGENT_STATE": str(directory),
        "ANTHROPIC_API_KEY": "secret",
        "OPENAI_API_KEY": "other",
    }
    line = [sys.executable, "-m", "hive_agent", "access"]
    process = await asyncio.create_subprocess_exec(*line, env=environment)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def server(sockets: UnixSockets, place: Path) -> AsyncIterator[None]:
    """The running program."""
    async with serving(place):
        yield


def open_session(sockets: UnixSockets, opening: Opening) -> socket.socket:
    connection = sockets.connect("ada")
    connection.send(opening.encode())
    return connection


async def receive(connection: socket.socket, reader: FrameReader, until: int) -> list[Frame]:
    """Return the frames that arrive, up to the first of the type `until`."""
    found: list[Frame] = []
    async with asyncio.timeout(SECONDS):
        while not any(frame.kind == until for frame in found):
            arrived = await asyncio.get_running_loop().sock_recv(connection, 65_536)
            assert arrived, found
            found += reader.feed(arrived)
    return found


async def test_a_session_does_not_need_the_daemon(sockets: UnixSockets, server: None, place: Path) -> None:
    """A session goes on when the daemon's sockets are gone, and the next daemon's sessions are served, too."""
    reader = FrameReader(frames.FROM_AGENT)
    with open_session(sockets, Opening("run", argv=("sh", "-c", "read line; echo got $line"))) as connection:
        await receive(connection, reader, frames.ANSWER)
        sockets.close()
        sockets.hold("ada")
        with open_session(sockets, Opening("run", argv=("echo", "next"))) as other:
            frames_of_next = await receive(other, FrameReader(frames.FROM_AGENT), frames.EXIT)
            assert Frame(frames.STDOUT, b"next\n") in frames_of_next
        connection.send(frames.encode(frames.STDIN, b"this\n"))
        rest = await receive(connection, reader, frames.EXIT)
        assert [frame.content for frame in rest if frame.kind == frames.STDOUT] == [b"got this\n"]


async def test_a_caller_that_gave_up_runs_nothing(sockets: UnixSockets, place: Path) -> None:
    """A session whose caller went before anybody accepted it is not begun; the next one is."""
    open_session(sockets, Opening("run", argv=("touch", str(place / "ran")))).close()
    with open_session(sockets, Opening("run", argv=("echo", "here"))) as connection:
        async with serving(place):
            await receive(connection, FrameReader(frames.FROM_AGENT), frames.EXIT)
    assert not (place / "ran").exists()


async def test_keys_of_other_vendors_are_not_there(sockets: UnixSockets, server: None, place: Path) -> None:
    """A session has the variables that turns have: the key of the agent's backend, and of no other."""
    with open_session(sockets, Opening("run", argv=("env",), backend="claude")) as connection:
        found = await receive(connection, FrameReader(frames.FROM_AGENT), frames.EXIT)
    shown = b"".join(frame.content for frame in found if frame.kind == frames.STDOUT)
    assert b"ANTHROPIC_API_KEY=secret" in shown
    assert b"OPENAI_API_KEY" not in shown


async def test_garbage_of_a_caller_ends_its_program(sockets: UnixSockets, server: None, place: Path) -> None:
    """A caller that sends what is no frame loses its session, and its program gets SIGHUP."""
    script = f"trap 'touch {place}/hung; exit' HUP; echo up; while :; do read x || sleep 0.01; done"
    reader = FrameReader(frames.FROM_AGENT)
    with open_session(sockets, Opening("run", argv=("sh", "-c", script))) as connection:
        await receive(connection, reader, frames.STDOUT)
        connection.send(b"\xff" * 100)
        async with asyncio.timeout(SECONDS):
            while await asyncio.get_running_loop().sock_recv(connection, 65_536):
                pass
    async with asyncio.timeout(SECONDS):
        while not (place / "hung").exists():
            await asyncio.sleep(0.01)
