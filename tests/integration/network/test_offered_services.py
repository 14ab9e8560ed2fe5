"""Services that the operator offers, from the settings to a program in a sealed agent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.real_daemon import Daemon, running
from tests.integration.access.caller import Caller
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap

needs_bubblewrap = pytest.mark.skipif(bool(why_no_bubblewrap()), reason=why_no_bubblewrap() or "bubblewrap works")

SECONDS = 30.0
TALK = """
import json, os, socket, sys
def talk(address):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"anybody there?")
            connection.shutdown(socket.SHUT_WR)
            return connection.makefile().read()
    except OSError as error:
        return type(error).__name__
print(json.dumps({
    "variables": {key: value for key, value in os.environ.items() if key.startswith("HIVE_SERVICE_")},
    "answers": {name: talk(address) for name, address in json.loads(sys.argv[1]).items()},
}))
"""


@pytest.fixture
async def offered() -> AsyncIterator[dict[str, str]]:
    """Services on this host's loopback, with their addresses by name; `gone` is one that does not run."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said: " + await reader.read())
        writer.close()

    servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(2)]
    addresses = [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield dict(zip(("web", "db", "gone"), [*addresses, f"127.0.0.1:{unused.getsockname()[1]}"], strict=True))
    for server in servers:
        server.close()


def environment_of(pid: int) -> list[bytes]:
    """The environment of a process."""
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


async def talk(caller: Caller, agent: str, **addresses: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the agent's variables of services, and what is answered at addresses in it."""
    ended = await caller.run("exec", agent, "--", "python3", "-c", TALK, json.dumps(addresses))
    assert ended.code == 0, ended
    found = json.loads(ended.out)
    return found["variables"], found["answers"]


@needs_bubblewrap
async def test_sealed_agents_reach_what_they_were_given(hive_home: Path, offered: dict[str, str]) -> None:
    """A sealed agent reaches its services at the addresses in its variables, and nothing else of the host's loopback;
    one that is down is shown with its reason.
    """
    settings = {"sandbox": "bubblewrap", "services": json.dumps(offered)}
    async with running(Daemon(hive_home, settings=settings)) as daemon:
        caller = Caller(daemon)
        config = {"backend": "scripted", "network": "sealed", "services": ["web", "gone"]}
        await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": config})
        await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        inside = {"gone": "127.0.0.1:3200", "web": "127.0.0.1:3201"}
        variables, answers = await talk(caller, "ada", **inside, host=offered["web"], other=offered["db"])
        assert variables == {"HIVE_SERVICE_GONE": "127.0.0.1:3200", "HIVE_SERVICE_WEB": "127.0.0.1:3201"}
        assert answers.pop("gone") == "ConnectionResetError"
        assert answers == {
            "web": "you said: anybody there?", "host": "ConnectionRefusedError", "other": "ConnectionRefusedError"
        }  # fmt: skip
        shown = await daemon.ask("GET", "/v1/proposals/ada/0")
        assert f"services: web gives connections to {offered['web']}, as this host reaches it" in shown["settings"]
        assert "gone, web of the host" in (await caller.run("show", "ada")).out.decode()
        async with asyncio.timeout(SECONDS):
            while "service_down" not in (ended := await caller.run("net", "ada", "--json")).out.decode():
                await asyncio.sleep(0.1)
        found = json.loads(ended.out)
        assert found["refused"][0]["detail"] == f"{offered['gone']} does not answer: Connection refused"
        assert [each["address"] for each in found["services"]] == [offered["gone"], offered["web"]]


async def test_what_is_not_offered_is_refused(hive_home: Path, offered: dict[str, str]) -> None:
    """A spawn that asks for another service is refused; an agent whose service is offered no more is not started, and
    one with the host's network is told the service's own address.
    """
    daemon = Daemon(hive_home, settings={"sandbox": "none", "services": json.dumps(offered)})
    async with running(daemon):
        config = {"backend": "scripted", "network": "host", "services": ["mail"]}
        status, answer = await daemon.request("POST", "/v1/agents", {"name": "ada", "config": config})
        assert (status, answer["error"]["code"]) == (409, "not_offered")
        assert "no service mail; offered are: web, db, gone" in answer["error"]["message"]
        config["services"] = ["web"]
        await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": config})
        ada = await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        assert f"HIVE_SERVICE_WEB={offered['web']}".encode() in environment_of(ada["pid"])
        await daemon.terminate()
        again = hive_home / "a"
        again.mkdir()
        async with running(Daemon(again, settings={"sandbox": "none"}, state_dir=daemon.state_dir)) as without:
            ada = await without.agent_until("ada", lambda agent: agent["lifecycle"] == "failed")
            assert "offers agents no service web; none is offered" in ada["exit_cause"]
            assert without.log_entries("agent not started")[0]["code"] == "not_offered"
