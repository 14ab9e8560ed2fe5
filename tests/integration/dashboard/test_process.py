"""The process of the dashboard, as the local runtime runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil

from hive_core.runtimes.local.service_process import Service, ServiceProcess
from tests.helpers.own_children import OwnChildren
from tests.helpers.real_daemon import Daemon
from tests.helpers.real_daemon import running as started

ORIGIN = "http://hive.localhost:7000"


@contextlib.asynccontextmanager
async def running(daemon: Path, listen: str) -> AsyncIterator[ServiceProcess]:
    """Keep a confined dashboard running."""
    arguments = ["--daemon", str(daemon), "--origin", ORIGIN]
    service = Service("dashboard", arguments, daemon, has_network=False, listen=listen)
    process = ServiceProcess(service)
    keeping = asyncio.create_task(process.keep_running("/usr/bin/bwrap"))
    try:
        yield process
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def status_of_sign_in(path: Path) -> int:
    """Ask for the page to sign in until there is an answer."""
    while True:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with client.get(f"{ORIGIN}/sign-in") as answer:
                    return answer.status
        await asyncio.sleep(0.02)


def check_confined(process: Path, hive: Daemon) -> None:
    """Look at a process from outside of its sandbox."""
    assert (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert (process / "root" / hive.host_socket.relative_to("/")).is_socket()
    assert not (process / "root" / hive.state_dir.relative_to("/")).exists()
    assert not (process / "root/etc/shadow").exists()


async def test_a_confined_dashboard_serves_pages_and_comes_back(hive: Daemon, tmp_path: Path) -> None:
    """The dashboard serves on what it has inherited, without network or files of the hive; killed, it comes back."""
    path = hive.home / "w.sock"
    children = OwnChildren()
    async with running(hive.host_socket, str(path)):
        assert await status_of_sign_in(path) == 200
        inner = next(each for each in reversed(children.alive()) if "hive_core" in each.cmdline()[:4])
        check_confined(Path(f"/proc/{inner.pid}"), hive)
        inner.kill()
        assert await status_of_sign_in(path) == 200


async def test_a_taken_port_is_told_until_it_is_free(hive: Daemon) -> None:
    """The reason why the dashboard does not run stays to be seen, and it runs when the port is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with running(hive.host_socket, address) as process:
            while not process.problem:
                await asyncio.sleep(0.02)
            assert process.problem == f"cannot listen on {address}: Address already in use (exit code 1)"
            taken.close()
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(*address.split(":"))
                    break
                await asyncio.sleep(0.02)
            writer.close()


async def test_the_daemon_runs_a_dashboard_that_is_enabled(hive_home: Path) -> None:
    """A daemon with the setting has a dashboard that is its client, and opens no port for it; the status names it."""
    path = hive_home / "web.sock"
    settings = {"dashboard": json.dumps({"enabled": True, "listen": str(path)})}
    async with started(Daemon(hive_home, settings=settings)) as hive:
        status = await hive.ask("GET", "/v1/status")
        assert (status["dashboard"], status["dashboard_problem"]) == (ORIGIN, "")
        assert await status_of_sign_in(path) == 200
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as client, client.get(f"{ORIGIN}/healthz") as answer:
            assert (await answer.json())["ready"] is True
        processes = [psutil.Process(hive.pid), *psutil.Process(hive.pid).children(recursive=True)]
        assert [each for one in processes for each in one.net_connections("inet") if each.status == "LISTEN"] == []
