"""The sides of the relay's benchmark: a vendor in this process, the relay with its ledger, and a bare pass-through."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from tests.benchmarks.bench_directory import ROOT

_STREAM_SECONDS = 1.0
_TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word " * 4}}


@dataclass(frozen=True)
class Side:
    """An address to call, and the process that answers there."""

    url: str
    pid: int


@asynccontextmanager
async def vendor(events: int) -> AsyncIterator[str]:
    """Serve streams of so many events in a second, at once for the model `short`; return the base address."""
    text = f"event: content_block_delta\ndata: {json.dumps(_TEXT)}\n\n".encode()
    start = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 2_000, "output_tokens": 1}}}
    end = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": events * 4}}

    async def answer(request: web.Request) -> web.StreamResponse:
        short = (await request.json())["model"] == "short"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(start)}\n\n".encode())
        for _ in range(3 if short else events):
            if not short:
                await asyncio.sleep(_STREAM_SECONDS / events)
            await response.write(text)
        await response.write(f"data: {json.dumps(end)}\n\n".encode())
        return response

    app = web.Application()
    app.router.add_post("/v1/messages", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def relay_side(directory: Path, address: str) -> AsyncIterator[Side]:
    """Start a relay for one agent, and a daemon's end with a ledger in `directory`, each a process as in a hive."""
    keys = directory / "keys"
    keys.mkdir(mode=0o700)
    (keys / "key").touch(mode=0o600)
    (keys / "key").write_text("sk-benchmark")
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.network.relay_daemon", str(directory), address),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert daemon.stdin is not None and daemon.stdout is not None
    port = int(await daemon.stdout.readline())
    arguments = ["-m", "hive_core", "relay", "--link", str(directory / "relay.sock"), "--credentials", str(keys)]
    process = await _pinned(*arguments, "--log-level", "error")
    try:
        yield Side(f"http://127.0.0.1:{port}/vendor/v1/messages", process.pid)
    finally:
        process.terminate()
        await process.wait()
        daemon.stdin.close()
        await daemon.wait()


@asynccontextmanager
async def pass_through(address: str) -> AsyncIterator[Side]:
    """Start the reference."""
    process = await _pinned("-m", "tests.benchmarks.relay_of_aiohttp", address)
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    try:
        yield Side(f"http://127.0.0.1:{port}/v1/messages", process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _pinned(*arguments: str) -> Process:
    """Start Python on the last core of this machine."""
    core = max(os.sched_getaffinity(0))
    return await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            f"import os, sys; os.sched_setaffinity(0, {{{core}}}); os.execv(sys.argv[1], sys.argv[1:])",
        ),
        *(sys.executable, *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
