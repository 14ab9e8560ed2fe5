"""A web page in a real browser, and a port that leads to `host.sock`, as `socat` or `ssh -L` would make it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser

from tests.helpers.real_daemon import Daemon, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ATTACK = """async (port) => {
    const base = `http://127.0.0.1:${port}`;
    const message = JSON.stringify({to: "operator", body: "from a web page"});
    const quiet = (request) => request.catch(() => null);
    await quiet(fetch(`${base}/v1/messages`, {method: "POST", mode: "no-cors", body: message}));
    await quiet(fetch(`${base}/v1/messages`, {method: "POST", mode: "no-cors", body: new Blob([message])}));
    await quiet(fetch(`${base}/v1/messages`, {method: "POST", body: message,
        headers: {"Content-Type": "application/json"}}));
    await quiet(fetch(`${base}/v1/agents/ann/stop`, {method: "POST", mode: "no-cors"}));
    await quiet(fetch(`${base}/v1/messages`, {mode: "no-cors"}));
    await new Promise((done) => {
        const image = new Image();
        image.onload = image.onerror = done;
        image.src = `${base}/v1/agents`;
    });
    await new Promise((done) => {
        const frame = document.createElement("iframe");
        frame.name = "target";
        document.body.append(frame);
        const form = document.createElement("form");
        form.action = `${base}/v1/agents/ann/stop`;
        form.method = "post";
        form.target = "target";
        document.body.append(form);
        frame.onload = done;
        form.submit();
    });
}"""


@asynccontextmanager
async def web_site() -> AsyncIterator[str]:
    """Another site on the loopback, which a browser lets reach other ports there; its address."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="<!doctype html><title>another site</title>", content_type="text/html")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def forwarded(path: Path) -> AsyncIterator[int]:
    """A port of the loopback that leads to the unix socket `path`."""
    tasks: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
            target.write_eof()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_unix_connection(str(path))
        try:
            await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))
        finally:
            for each in (writer, to_writer):
                each.transport.abort()
                with suppress(ConnectionError):
                    await each.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(connect(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_web_page_cannot_act_as_the_operator(browser: Browser) -> None:
    """Scripts, forms and images of another site are refused, each with an audit row, and nothing happens."""
    home = Path(tempfile.mkdtemp(prefix="hive-"))
    try:
        async with running(Daemon(home)) as daemon, forwarded(daemon.host_socket) as port, web_site() as site:
            await daemon.spawn("ann")
            await daemon.agent_until("ann", lambda status: status["state"] == "idle")
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(site)
            await page.evaluate(ATTACK, port)
            await context.close()
            refused = daemon.sql("SELECT subject FROM audit WHERE outcome = 'browser_request' ORDER BY id")
            assert sorted({subject for (subject,) in refused}) == [
                "GET /v1/agents", "GET /v1/messages", "OPTIONS /v1/messages", "POST /v1/agents/ann/stop",
                "POST /v1/messages",
            ]  # fmt: skip
            assert daemon.sql("SELECT count(*) FROM messages WHERE body = 'from a web page'") == [(0,)]
            assert (await daemon.ask("GET", "/v1/agents/ann"))["lifecycle"] == "running"
    finally:
        shutil.rmtree(home)
