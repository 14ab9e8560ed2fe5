"""Where the page listens, and what may be in the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import stat
from pathlib import Path

import pytest
from aiohttp import web

from hive_agent.web import listening
from tests.unit.agent.web.fake_browser import browsing
from tests.unit.agent.web.fakes import served


async def works(run: Path) -> bool:
    async with served(run) as page, browsing(page, socket=True) as browser:
        return await browser.code("GET", "/api/now") == ""


async def test_only_the_owner_may_connect(run_dir: Path) -> None:
    """The socket's file has mode 0600, and is gone when the page is."""
    async with served(run_dir) as page:
        mode = page.socket.lstat().st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert not page.socket.exists()


async def test_a_stale_socket_is_replaced(run_dir: Path) -> None:
    """What a killed harness left is no obstacle."""
    (run_dir / "own").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(run_dir / "own" / "web.sock"))
    assert await works(run_dir)


@pytest.mark.parametrize("obstacle", ["link", "file", "directory"])
async def test_nothing_else_is_removed(run_dir: Path, obstacle: str, caplog: pytest.LogCaptureFixture) -> None:
    """A link, file or directory at the socket's place stays, with what it leads to; the harness goes on and says so."""
    own = run_dir / "own"
    own.mkdir()
    place, other = own / "web.sock", run_dir / "other"
    with socket.socket(socket.AF_UNIX) as elsewhere:
        elsewhere.bind(str(other))
        if obstacle == "link":
            place.symlink_to(other)
        elif obstacle == "file":
            place.write_text("mine")
        else:
            place.mkdir()
        async with served(run_dir):
            pass
        assert other.is_socket() and place.lstat() is not None
        assert place.is_symlink() == (obstacle == "link")
    assert "no page on" in caplog.text


async def test_a_newer_harness_keeps_its_socket(run_dir: Path) -> None:
    """A harness that ends does not take away the socket of the one that replaced it."""
    async with served(run_dir) as old:
        newer = served(run_dir)
        page = await newer.__aenter__()
    assert old.socket.is_socket()
    async with browsing(page, socket=True) as browser:
        assert await browser.code("GET", "/api/now") == ""
    await newer.__aexit__(None, None, None)
    assert not page.socket.exists()


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

    place = run_dir / "page.sock"
    async with listening.on_socket(fails, place):
        assert opened == 0
        reader, writer = await asyncio.open_unix_connection(place)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                assert await reader.read() == b""
        writer.close()
        assert opened == 1
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(place)
    assert "the page cannot be opened: ValueError" in caplog.text
    assert "secret" not in caplog.text
