"""A sealed agent of the `local` runtime: what it reaches of the network, and what reaches it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.cli.client import Client
from hive_core.cli.live.seal_check import Seal, SealCheck
from hive_core.cli.live.seal_plan import LABELS
from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.harness.in_sandbox import needs_bubblewrap, run_inside
from tests.integration.harness.page_client import watching

ECHO: list[Json] = [{"sender": "operator", "match": "hello", "send": [{"to": "operator", "text": "I heard you."}]}]

TRY = """
import json, socket, sys
port, name = int(sys.argv[1]), sys.argv[2]
def reaches(family, address):
    with socket.socket(family) as one:
        one.settimeout(5)
        try:
            one.connect(address)
        except OSError:
            return False
        return True
with socket.create_server(("127.0.0.1", 0)) as inside:
    own = reaches(socket.AF_INET, inside.getsockname())
print(json.dumps({
    "loopback of the host": reaches(socket.AF_INET, ("127.0.0.1", port)),
    "abstract socket of the host": reaches(socket.AF_UNIX, "\\0" + name),
    "own loopback": own,
    "core.sock": reaches(socket.AF_UNIX, "/run/hive/core.sock"),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
}))
"""


@pytest.fixture
async def hive(hive_home: Path) -> AsyncIterator[Daemon]:
    """A daemon that confines its agents with bubblewrap."""
    async with running(Daemon(hive_home, settings={"sandbox": "bubblewrap"})) as daemon:
        yield daemon


def without_resolver(seal: Seal) -> set[str]:
    """Return the check that a host without name servers lacks."""
    return set() if any(each.check == "dns" for each in seal.checks) else {"dns"}


async def spawned(daemon: Daemon, name: str, network: str) -> None:
    config = {"backend": "scripted", "script": ECHO, "network": network}
    await daemon.ask("POST", "/v1/agents", {"name": name, "config": config})
    await daemon.agent_until(name, lambda agent: agent["state"] == "idle")


@needs_bubblewrap
async def test_a_sealed_agent_reaches_the_hives_sockets_only(hive: Daemon) -> None:
    """It has a loopback of its own that works, and neither that of the host nor its abstract sockets; an agent with
    the host's network reaches both. The doctor, which has both look from inside, finds the same.
    """
    name = f"hive-test-{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as service, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        port = str(service.getsockname()[1])
        for agent, network in (("sea", "sealed"), ("land", "host")):
            await spawned(hive, agent, network)
            seen = await run_inside(hive, agent, TRY, port, name)
            reached = {what for what, reached in seen.items() if reached is True}
            own = {"own loopback", "core.sock"}
            world = {"loopback of the host", "abstract socket of the host"}
            assert reached == (own if network == "sealed" else own | world)
            assert network == "host" or seen["interfaces"] == ["lo"]
    agents = await hive.agents()
    sea, land = await asyncio.to_thread(
        SealCheck(Client(str(hive.host_socket)), lambda _: None).run, [agents["sea"], agents["land"]]
    )
    assert (sea.severity, sea.network, sea.problem) == ("ok", "sealed", "")
    assert {each.check for each in sea.checks if each.held} == LABELS.keys() - {"allowed-host", *without_resolver(sea)}
    assert (land.severity, land.network) == ("ok", "host")
    assert {"loopback", "abstract-socket"} <= {each.check for each in land.checks if each.reached and each.seen}
    assert not any(each.seen for each in sea.checks)


@needs_bubblewrap
async def test_a_sealed_agent_works_and_its_page_is_reached(hive: Daemon) -> None:
    """It answers messages, and the operator sees its turn on the view socket; its page has no port of the host."""
    await spawned(hive, "sea", "sealed")
    ticket = await hive.ask("POST", "/v1/agents/sea/page-tickets")
    assert ticket["sealed"] and not ticket["held"]
    assert ticket["socket"] == str(hive.view_socket("sea"))
    async with watching(hive, "sea") as page:
        sent = await hive.ask("POST", "/v1/messages", {"to": "sea", "body": "hello"})
        async with asyncio.timeout(30):
            await page.until(lambda kind, data: kind == "turn" and data["state"] == "ok")
    answers = hive.sql("SELECT body FROM messages WHERE sender = 'sea' AND reply_to = ?", sent["id"])
    assert answers == [("I heard you.",)]
    status = await hive.ask("GET", "/v1/status")
    assert status["sealing"] == "a network namespace with nothing but a loopback of its own"


@needs_bubblewrap
async def test_where_agents_are_plain_processes_nothing_is_sealed(hive_home: Path) -> None:
    """Spawns are refused with the reason, and an agent that was sealed before is not started without its seal."""
    daemon = Daemon(hive_home, settings={"sandbox": "bubblewrap"})
    async with running(daemon):
        await spawned(daemon, "sea", "sealed")
        await daemon.terminate()
        again = hive_home / "a"
        again.mkdir()
        plain = Daemon(again, settings={"sandbox": "none", "unsealed": False}, state_dir=daemon.state_dir)
        async with running(plain):
            body: Json = {"name": "more", "config": {}}
            for path, request in (("/v1/agents", body), ("/v1/agents/sea/start", None)):
                status, answer = await plain.request("POST", path, request)
                assert (status, answer["error"]["code"]) == (409, "cannot_seal")
                assert answer["error"]["message"].startswith('network = "sealed" cannot be enforced')
                assert "unsealed = true" in answer["error"]["hint"]
            (sea,) = (await plain.agents()).values()
            assert sea["lifecycle"] == "failed" and "cannot be enforced" in sea["exit_cause"]
            assert plain.log_entries("agent not started")[0]["code"] == "cannot_seal"
            assert (await plain.ask("GET", "/v1/status"))["sealing"].startswith("refused, as nothing can seal it")


async def test_agents_run_unsealed_only_where_the_settings_say_so(daemon: Daemon) -> None:
    """With `unsealed`, a sealed agent runs with the host's network where nothing can seal it, and all lists say so."""
    await daemon.ask("POST", "/v1/agents", {"name": "sea", "config": {"script": ECHO}})
    sea = await daemon.agent_until("sea", lambda agent: agent["state"] == "idle")
    assert (sea["network"], sea["unsealed"]) == ("sealed", True)
    assert (await daemon.ask("GET", "/v1/status"))["sealing"].startswith("NOT SEALED")
    shown = await daemon.ask("GET", "/v1/agents/sea/network")
    assert (shown["network"], shown["unsealed"]) == ("host", True)
    ticket = await daemon.ask("POST", "/v1/agents/sea/page-tickets")
    assert ticket["held"] and not ticket["sealed"]
    for line in (("list",), ("show", "sea"), ("net",), ("net", "sea"), ("status",), ("doctor",)):
        assert "NOT SEALED" in await output(daemon, *line), line


async def output(daemon: Daemon, *line: str) -> str:
    """Return what a command of the CLI prints."""
    command = [sys.executable, "-m", "hive_core", "--socket", str(daemon.host_socket), *line]
    environment = {
        **os.environ,
        "HIVE_UNSEALED": "true",
        "HIVE_SANDBOX": "none",
        "HIVE_STATE_DIR": str(daemon.state_dir),
    }
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout
