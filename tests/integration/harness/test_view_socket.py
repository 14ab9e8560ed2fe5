"""The view socket against an agent that wants the operator's command to reach something else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.helpers.real_daemon import Daemon, running
from tests.integration.harness.in_sandbox import identity, needs_bubblewrap, run_inside, writable_directories
from tests.integration.harness.page_client import watching

LAY_TRAPS = """
import json, os, socket, sys
target = sys.argv[1]
made, failed = [], []
names = ("view.sock", "page.sock", "core.sock", "web.sock", "ada.sock", "own", "views", "host.sock")
tops = ("/", "/run", "/run/hive", "/state", "/root/.claude", "/config", "/code", "/tmp", "/deployed", "/applied")
for top in tops:
    for name in names:
        path = os.path.join(top, name)
        for act in (
            lambda: os.unlink(path),
            lambda: os.rename(path, path + ".away"),
            lambda: os.symlink(target, path),
            lambda: (os.mkdir(path), os.symlink(target, os.path.join(path, "web.sock"))),
            lambda: socket.socket(socket.AF_UNIX).bind(path),
        ):
            try:
                act()
                made.append(top)
            except OSError as error:
                failed.append(error.errno)
print(json.dumps(sorted(set(made))))
"""

MISUSE = """
import json, os, socket, sys
caller = socket.socket(socket.AF_UNIX)
caller.connect("/run/hive/view.sock")
_, [descriptor], _, _ = socket.recv_fds(caller, 1, 1)
listener = socket.socket(fileno=descriptor)
reached = []
for _ in range(2):
    for target in sys.argv[1:]:
        try:
            listener.connect(target)
            reached.append(target)
        except OSError:
            pass
    listener.shutdown(socket.SHUT_RDWR)
print(json.dumps(reached))
"""


async def front_page(path: Path) -> tuple[int, str]:
    """Return the answer of the socket to a browser: the status, and its beginning."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), timeout=timeout) as browser,
        browser.get("http://127.0.0.1/") as answer,
    ):
        return answer.status, (await answer.text())[:200]


def leads_nowhere_else(path: Path) -> bool:
    """Return True if the path is a socket, and no part of it a link."""
    return path.resolve() == path and path.is_socket()


@needs_bubblewrap
@pytest.mark.parametrize("network", ["host", "sealed"])
async def test_an_agent_cannot_lead_the_operator_elsewhere(hive_home: Path, network: str) -> None:
    """Whatever links and sockets an agent puts wherever it can write, and whatever it does with the listener that it
    was lent: the path that `hive-c0re open` names is no link, in no directory that the agent sees, and answers with
    the agent's page.
    """
    async with running(Daemon(hive_home, settings={"sandbox": "bubblewrap"})) as daemon:
        await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": {"network": network}})
        await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        traps = await run_inside(daemon, "ada", LAY_TRAPS, str(daemon.host_socket))
        assert traps == ["/code", "/config", "/root/.claude", "/state", "/tmp"]

        ticket = await daemon.ask("POST", "/v1/agents/ada/page-tickets")
        path = Path(ticket["socket"])
        assert leads_nowhere_else(path)
        writable = await writable_directories(daemon, "ada")
        assert identity(daemon.state_dir / "agents" / "ada" / "state") in writable
        assert not writable & {identity(directory) for directory in path.parents}
        status, text = await front_page(path)
        assert status == 200 and text.startswith("<!doctype html>")
        async with watching(daemon, "ada"):
            pass

        assert await run_inside(daemon, "ada", MISUSE, str(daemon.host_socket), "/run/hive/core.sock") == []
        assert (await daemon.ask("POST", "/v1/agents/ada/page-tickets"))["socket"] == str(path)
        await daemon.ask("POST", "/v1/agents/ada/restart")
        await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        async with asyncio.timeout(30):
            assert (await front_page(path))[1].startswith("<!doctype html>")


async def test_an_own_directory_of_an_older_hive_is_removed(hive_home: Path) -> None:
    """At its start the daemon removes what agents of older hives could write, and nothing that links there lead to."""
    kept = hive_home / "kept"
    kept.mkdir()
    (kept / "file").touch()
    async with running(Daemon(hive_home)) as daemon:
        await daemon.spawn("ada", start=False)
        await daemon.terminate()
        own = daemon.core_socket("ada").parent / "own"
        own.mkdir()
        (own / "web.sock").symlink_to(kept)
        (own / "deep").mkdir()
        await daemon.start()
        assert not own.exists() and (kept / "file").exists()
        async with asyncio.timeout(20):
            while any((daemon.run_dir / "trash").iterdir()):
                await asyncio.sleep(0.02)
