"""Where the page listens, and what may be in the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path

import pytest
from aiohttp import web

from hive_agent.client import lent
from hive_agent.environment import AgentEnvironment
from hive_agent.web import listening
from hive_agent.web.feed import Feed
from hive_agent.web.serving import serve_page
from hive_core.api.lent_sockets import UnixSockets
from hive_core.protocol import AgentConfig, Profile
from tests.unit.agent.web.fake_browser import browsing
from tests.unit.agent.web.fakes import served

PROFILE = Profile(name="alice", kind="agent", config=AgentConfig(), prompt="", deployment=3, lease_seconds=60.0)


async def never() -> web.BaseRunner:
    raise AssertionError("nobody comes")


async def test_no_view_socket(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A harness whose daemon lends no view socket goes on without its page, and says so once."""
    caplog.set_level(logging.WARNING)
    async with listening.on_view(never, run_dir / "view.sock", "alice"):
        assert caplog.messages == ["no page on the view socket: No such file or directory"]


async def test_the_view_socket_of_the_next_daemon(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A harness that outlives its daemon serves its page on the view socket that the next daemon has made."""
    monkeypatch.setattr(listening, "_AGAIN_SECONDS", 0.02)
    async with served(run_dir) as page:
        async with browsing(page, socket=True) as browser:
            assert await browser.code("GET", "/api/now") == ""
        path, door = page.socket, run_dir / "view.sock"
        page.views.close()
        views = UnixSockets("view socket", lambda _: path, lambda _: door, 0o600, None)
        views.hold("alice")
        try:
            async with browsing(page, socket=True) as browser:
                assert await browser.code("GET", "/api/now") == ""
        finally:
            views.close()


async def test_a_view_socket_that_was_shut_down(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a program of the agent has shut the listener down, the page is there again once the daemon has looked."""
    monkeypatch.setattr(listening, "_AGAIN_SECONDS", 0.02)
    async with served(run_dir) as page:
        duplicate, connection = await lent.fetch_unix(run_dir / "view.sock", "alice")
        with duplicate, connection:
            duplicate.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(page.socket)
        page.views.hold("alice")
        async with browsing(page, socket=True) as browser:
            assert await browser.code("GET", "/api/now") == ""


async def test_a_harness_that_ends_leaves_the_path(run_dir: Path) -> None:
    """The path of the view socket is the daemon's: the harness removes it neither at its end nor at another time."""
    async with served(run_dir) as page:
        environment = AgentEnvironment.read({"HIVE_AGENT_RUN": str(run_dir)})
        async with serve_page(page.controls, Feed(), page.hive, environment, PROFILE):
            before = page.socket.lstat().st_ino
        assert page.socket.lstat().st_ino == before


async def test_a_port_that_is_taken(run_dir: Path, port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Another program at the port costs the page that port, and nothing else; the log says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        async with served(run_dir, port) as page, browsing(page, socket=True) as browser:
            assert await browser.code("GET", "/api/now") == ""
    assert f"no page on port {port}" in caplog.text


async def test_the_loopback_only(run_dir: Path, port: int) -> None:
    """The port is open on 127.0.0.1 and on no other address of the machine, not even another one of the loopback."""
    async with served(run_dir, port):
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))


@pytest.mark.parametrize("value", ["", "0", "x", "70000", "-1"])
async def test_no_port(run_dir: Path, value: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without a usable HIVE_AGENT_PORT the page has its socket only, and a wrong value is told."""
    caplog.set_level(logging.INFO)
    async with served(run_dir, value) as page, browsing(page, socket=True) as browser:
        assert await browser.code("GET", "/api/now") == ""
    assert ("is no port" in caplog.text) == (value not in ("", "0"))
    assert "the page is at" not in caplog.text


async def test_what_cannot_be_opened(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What answers is opened for the first caller, not before; if that fails the caller is hung up on, and the log
    says why, but not what the error said.
    """
    opened = 0

    async def fails() -> web.BaseRunner:
        nonlocal opened
        opened += 1
        raise ValueError("secret")

    views = UnixSockets("view socket", lambda _: run_dir / "alice.sock", lambda _: run_dir / "view.sock", 0o600, None)
    views.hold("alice")
    async with listening.on_view(fails, run_dir / "view.sock", "alice"):
        assert opened == 0
        for _ in range(2):
            reader, writer = await asyncio.open_unix_connection(run_dir / "alice.sock")
            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(10):
                    assert await reader.read() == b""
            writer.close()
            assert opened == 1
    views.close()
    assert "the page cannot be opened: ValueError" in caplog.text
    assert "secret" not in caplog.text
