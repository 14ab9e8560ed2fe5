"""The port of an agent's page with the real daemon: nobody else's while the agent is down."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp

from hive_core.agents.store import choose_port
from tests.helpers.real_daemon import Daemon, running

THIEF = """
import socket, sys
found = socket.socket()
for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
    found.setsockopt(socket.SOL_SOCKET, option, 1)
found.bind((sys.argv[1], int(sys.argv[2])))
found.listen()
"""
"""Another process of the same user, which tries what it can."""


def name() -> str:
    """Of an agent of this test alone: other hives on this machine have agents, too, and the name decides the port."""
    while True:
        made = f"a{secrets.token_hex(4)}"
        with suppress(OSError), socket.create_server(("127.0.0.1", choose_port(made, ()))):
            return made


async def stolen(port: int, address: str) -> bool:
    """Whether another process can listen on the port."""
    argv = [sys.executable, "-I", "-c", THIEF, address, str(port)]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or "Address already in use" in done.stderr
    return done.returncode == 0


async def entered(port: int, ticket: str) -> int:
    """What the page at the port answers to somebody with a ticket."""
    timeout = aiohttp.ClientTimeout(total=60)
    page = f"http://127.0.0.1:{port}/enter"
    async with (
        aiohttp.ClientSession(timeout=timeout) as browser,
        browser.post(page, json={"ticket": ticket}) as answer,
    ):
        return answer.status


async def test_nobody_takes_the_port_of_an_agent_that_is_down(daemon: Daemon) -> None:
    """Before it first runs, while it runs, when it is stopped and after it was killed nobody else can listen on its
    port; started again, it serves its page there, to a browser that came meanwhile. Destroyed, it has none any more.
    """
    alice = name()
    port = (await daemon.spawn(alice, start=False))["web_port"]
    tickets = f"/v1/agents/{alice}/page-tickets"
    assert (await daemon.ask("POST", tickets))["held"]
    assert not await stolen(port, "127.0.0.1")
    await daemon.ask("POST", f"/v1/agents/{alice}/start")
    await daemon.agent_until(alice, lambda agent: agent["state"] == "idle")
    assert not await stolen(port, "127.0.0.1")
    assert await entered(port, (await daemon.ask("POST", tickets))["ticket"]) == 200
    await daemon.ask("POST", f"/v1/agents/{alice}/stop")
    for address in ("127.0.0.1", "0.0.0.0"):
        assert not await stolen(port, address)
    waiting = asyncio.create_task(entered(port, (await daemon.ask("POST", tickets))["ticket"]))
    await daemon.ask("POST", f"/v1/agents/{alice}/start")
    assert await waiting == 200
    await daemon.ask("POST", f"/v1/agents/{alice}/destroy")
    assert await stolen(port, "127.0.0.1")


async def test_a_thief_that_was_there_first(daemon: Daemon) -> None:
    """Then the agent runs without the port, which is told; when the port is free again it is the agent's.

    The agent had the port before: a new one gets another that is free.
    """
    alice = name()
    port = (await daemon.spawn(alice, start=False))["web_port"]
    await daemon.ask("POST", f"/v1/agents/{alice}/destroy")
    with socket.create_server(("127.0.0.1", port)):
        await daemon.spawn(alice)
        await daemon.agent_until(alice, lambda agent: agent["state"] == "idle")
        tickets = f"/v1/agents/{alice}/page-tickets"
        assert not (await daemon.ask("POST", tickets))["held"]
        said = daemon.log_entries("the page has no port")
        assert {(entry["agent"], entry["code"]) for entry in said} == {(alice, "page_port_taken")}
        assert all(f"cannot listen on port {port} " in entry["error"] for entry in said)
        assert all("takes this one when it is free" in entry["hint"] for entry in said)
        found = await daemon.agent_until(alice, lambda agent: agent["page_problem"].startswith("process "))
        assert found["page_problem"].startswith(f"process {os.getpid()} (")
        assert found["page_problem"].endswith(f" listens on port {port}")
    made = await daemon.ask("POST", tickets)
    assert (await daemon.ask("GET", f"/v1/agents/{alice}"))["page_problem"] == ""
    assert made["held"] and await entered(port, made["ticket"]) == 200


async def test_a_daemon_that_is_started_again(hive_home: Path) -> None:
    """It has the ports again, although connections of the one before are not forgotten yet (TIME_WAIT)."""
    alice = name()
    async with running(Daemon(hive_home)) as daemon:
        port = (await daemon.spawn(alice))["web_port"]
        await daemon.agent_until(alice, lambda agent: agent["state"] == "idle")
        tickets = f"/v1/agents/{alice}/page-tickets"
        assert await entered(port, (await daemon.ask("POST", tickets))["ticket"]) == 200
        await daemon.terminate()
        await daemon.start()
        assert not await stolen(port, "127.0.0.1")
        await daemon.agent_until(alice, lambda agent: agent["state"] == "idle")
        assert await entered(port, (await daemon.ask("POST", tickets))["ticket"]) == 200
