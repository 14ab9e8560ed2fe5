"""The way of a sealed agent to the world: one proxy on its loopback, which is there after each restart of anybody."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.real_daemon import Daemon, running
from tests.integration.access.caller import Caller
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap

pytestmark = pytest.mark.skipif(bool(why_no_bubblewrap()), reason=why_no_bubblewrap() or "bubblewrap works")

SECONDS = 30.0


@pytest.fixture
async def caller(hive_home: Path) -> AsyncIterator[Caller]:
    """Commands against a sealed agent ada, who may reach nothing yet."""
    async with running(Daemon(hive_home, settings={"sandbox": "bubblewrap"})) as daemon:
        config = {"backend": "scripted", "network": "sealed"}
        await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": config})
        await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        yield Caller(daemon)


async def visit(caller: Caller, address: str) -> str:
    """Visit an address with curl in the agent; return the answer with its status, or the reason why there is none."""
    line = ("curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", address)
    ended = await caller.run("exec", "ada", "--", *line)
    return ended.out.decode() + ended.err


async def refused(caller: Caller) -> Any:
    """Return the facts that the hive shows of the agent's network."""
    ended = await caller.run("net", "ada", "--json")
    assert ended.code == 0, ended
    return json.loads(ended.out)


def proxies(daemon: Daemon) -> list[psutil.Process]:
    """The running proxy of the daemon, and the sandbox around it."""
    found = psutil.Process(daemon.pid).children(recursive=True)
    return [each for each in found if "egress" in each.cmdline()]


async def test_a_refusal_is_told_to_the_agent_and_shown_to_the_operator(caller: Caller) -> None:
    """A host without a rule is refused with words on what is missing, and the operator sees the refusal."""
    answer = await visit(caller, "http://nothing.example.com/")
    assert answer.endswith("\n403"), answer
    assert "nothing.example.com" in answer
    assert "request_network" in answer
    async with asyncio.timeout(SECONDS):
        while "nothing.example.com" not in json.dumps(await refused(caller)):
            await asyncio.sleep(0.1)
    assert (await visit(caller, "http://192.0.2.1/")).endswith("\n403")  # An address is no name.


async def test_the_way_out_is_there_again(caller: Caller) -> None:
    """After the end of the proxy, of the harness and of the daemon the proxy answers the agent again."""
    daemon = caller.daemon

    async def answers() -> None:
        async with asyncio.timeout(SECONDS):
            while not (await visit(caller, "http://nothing.example.com/")).endswith("\n403"):
                await asyncio.sleep(0.2)

    await answers()
    for process in proxies(daemon):
        with suppress(psutil.NoSuchProcess):  # It has ended with the sandbox around it.
            process.send_signal(signal.SIGKILL)
    await answers()
    await daemon.ask("POST", "/v1/agents/ada/restart", {})
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
    await answers()
    await daemon.kill()
    await daemon.start()
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
    await answers()
    assert proxies(daemon)


async def test_programs_that_ignore_the_proxy_fail_at_once(caller: Caller) -> None:
    """Without the proxy there is no network, and that is said at once."""
    line = ("curl", "--noproxy", "*", "--silent", "--show-error", "--max-time", "20", "http://192.0.2.1/")
    ended = await caller.run("exec", "ada", "--", *line)
    assert ended.code == 7, ended
    assert "connect" in ended.err


@pytest.mark.skipif(shutil.which("ssh") is None, reason="not installed: ssh")
async def test_ssh_and_git_over_ssh_know_the_proxy(caller: Caller) -> None:
    """ssh in a sealed agent asks the proxy, without being told to, and shows which rule is missing; so does git."""
    for line in (("ssh", "git@nothing.example.com", "true"), ("git", "ls-remote", "git@nothing.example.com:a/b")):
        ended = await caller.run("exec", "ada", "--", *line)
        assert ended.code != 0
        assert "nothing.example.com:22" in ended.err and "request_network" in ended.err, ended
    ended = await caller.run("exec", "ada", "--", "ssh", "localhost", "true")
    assert "Connection refused" in ended.err and "hyperhive" not in ended.err, ended  # Its own loopback is no host.
