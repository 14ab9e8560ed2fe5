"""The harness' side of its page's port: what it takes from the daemon, and what it does without."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hive_agent.client import lent
from hive_agent.web import listening
from hive_core.api.lent_sockets import PagePorts
from tests.unit.agent.web.fake_browser import browsing
from tests.unit.agent.web.fakes import served


def not_listening() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


def elsewhere() -> socket.socket:
    return socket.create_server(("127.0.0.2", 0))


def not_tcp() -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind("")
    made.listen()
    return made


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def lending(place: Path, make: Callable[[], socket.socket | None]) -> Iterator[None]:
    """A fake of a daemon that lends this to the first who asks, or hangs up."""
    with socket.socket(socket.AF_UNIX) as door, contextlib.ExitStack() as stack:
        door.bind(str(place))
        door.listen()
        sent = make()
        if sent is not None:
            stack.enter_context(sent)

        def answer() -> None:
            caller, _ = door.accept()
            with caller:
                if sent is not None:
                    socket.send_fds(caller, [b"\0"], [sent.fileno()])

        loop = asyncio.get_running_loop()
        loop.add_reader(door, answer)
        try:
            yield
        finally:
            loop.remove_reader(door)


@pytest.mark.parametrize("make", [not_listening, elsewhere, not_tcp, lambda: None])
async def test_only_what_listens_on_the_port_is_taken(run_dir: Path, make: Callable[[], socket.socket | None]) -> None:
    """Anything else, or nothing, is refused, and no descriptor of it is kept."""
    place = run_dir / "page.sock"
    with lending(place, make):
        before = descriptors()
        with pytest.raises(OSError, match=r"lent|not got it"):
            await lent.fetch_port(place, 1)
        assert descriptors() == before


def not_alices() -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind("\0alice.sock")  # An abstract name is that of no file.
    made.listen()
    return made


def not_listening_unix() -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind("")
    return made


def tcp() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("make", [not_alices, not_listening_unix, tcp, lambda: None])
async def test_only_a_view_socket_is_taken(run_dir: Path, make: Callable[[], socket.socket | None]) -> None:
    """A harness takes neither a TCP listener nor a unix socket of another name as its view socket."""
    with lending(run_dir / "view.sock", make):
        before = descriptors()
        with pytest.raises(OSError, match=r"lent|not got it"):
            await lent.fetch_unix(run_dir / "view.sock", "alice")
        assert descriptors() == before


async def test_programs_of_the_agent_do_not_inherit_it(run_dir: Path, port: int) -> None:
    """What is lent is closed in what the harness starts, as all its sockets are."""
    ports = PagePorts(lambda _: run_dir / "page.sock")
    ports.hold("alice", port)
    with await lent.fetch_port(run_dir / "page.sock", port) as found:
        assert not found.get_inheritable()
        assert found.getsockname() == ("127.0.0.1", port)
    ports.close()


async def test_a_port_that_comes_later(
    run_dir: Path, port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A harness that was not lent its port goes on asking, and serves its page there as soon as it has it."""
    monkeypatch.setattr(listening, "_AGAIN_SECONDS", 0.02)
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", port)):
        running = served(run_dir, port)
        page = await running.__aenter__()
        assert f"no page on port {port}: the daemon has not got it" in caplog.text
    async with asyncio.timeout(20):
        while f"the page is at http://127.0.0.1:{port}" not in caplog.text:
            await asyncio.sleep(0.01)
    async with browsing(page) as browser:
        assert await browser.code("GET", "/api/now") == ""
    assert caplog.text.count("no page on port") == 1
    await running.__aexit__(None, None, None)


async def test_a_daemon_that_does_not_answer(
    run_dir: Path, port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps no harness waiting for long."""
    monkeypatch.setattr(lent, "_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(run_dir / "silent.sock"))
        silent.listen()

        async def never() -> None:
            raise AssertionError("nobody comes")

        async with listening.on_port(never, run_dir / "silent.sock", port):  # type: ignore[arg-type]
            assert f"no page on port {port}: TimeoutError" in caplog.text
