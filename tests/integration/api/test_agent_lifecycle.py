"""What of an agent outlives it: destroyed, spawned again, purged."""

from __future__ import annotations

import asyncio

import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import exchange

INSTANCE = "instance-1"


async def test_spawned_again(hive: Daemon) -> None:
    """A new agent of a destroyed one's name finds its state, its port and the messages that it had not dealt with."""
    port = (await hive.agents())["ann"]["web_port"]
    note = hive.state_dir / "agents" / "ann" / "state" / "note"
    note.write_text("remember")
    await hive.ask("POST", "/v1/harness/hello", {"instance": INSTANCE, "version": "1"}, agent="ann")
    for number in range(3):
        await hive.ask("POST", "/v1/messages", {"to": "ann", "body": str(number)})
    leased = await hive.ask("POST", "/v1/messages/receive", {"instance": INSTANCE, "max": 2}, agent="ann")
    first = leased["deliveries"][0]["id"]
    await hive.ask("POST", "/v1/messages/ack", {"instance": INSTANCE, "ids": [first]}, agent="ann")

    answer = await hive.ask("POST", "/v1/agents/ann/destroy")
    assert answer == {"name": "ann", "purged": False, "dropped_messages": 0}
    assert not hive.core_socket("ann").parent.exists()
    # The port is kept for it, not given to the next that comes.
    assert port not in {agent["web_port"] for agent in (await hive.agents()).values()}

    await hive.spawn("ann", start=False)
    status = (await hive.agents())["ann"]
    assert (status["web_port"], status["unacked"], status["deployment"]) == (port, 2, 1), "numbers go on"
    assert note.read_text() == "remember"
    await hive.ask("POST", "/v1/harness/hello", {"instance": "instance-2", "version": "1"}, agent="ann")
    found = (await hive.ask("POST", "/v1/messages/receive", {"instance": "instance-2"}, agent="ann"))["deliveries"]
    assert [(message["body"], message["redelivered"]) for message in found] == [("1", True), ("2", False)]


async def test_purged(hive: Daemon) -> None:
    """A purge removes the files, the port and the messages, and says how many nobody had dealt with."""
    for body in ("a", "b"):
        await hive.ask("POST", "/v1/messages", {"to": "ann", "body": body})
    await hive.ask("POST", "/v1/messages", {"to": "*", "body": "everybody"})
    answer = await hive.ask("POST", "/v1/agents/ann/destroy", {"purge": True})
    assert answer == {"name": "ann", "purged": True, "dropped_messages": 3}
    assert not (hive.state_dir / "agents" / "ann").exists()
    assert not hive.core_socket("ann").parent.exists()
    assert hive.sql("SELECT * FROM web_ports WHERE name = 'ann'") == []
    assert hive.sql("SELECT body FROM messages") == [("everybody",)], "others still have that one"
    await hive.spawn("ann", start=False)
    assert (await hive.agents())["ann"]["unacked"] == 0


async def test_hello_again_takes_nothing_over(hive: Daemon) -> None:
    """A harness that was there before the daemon is known again, unless another one has come meanwhile."""

    async def hello(instance: str, again: bool = False) -> tuple[int, str]:
        body = {"instance": instance, "version": "1", "deployment": 1, "again": again}
        status, answer = await hive.request("POST", "/v1/harness/hello", body, agent="ann")
        return status, answer.get("error", {}).get("code", "")

    assert await hello("instance-1") == (200, "")
    assert await hello("instance-1", again=True) == (200, "")
    assert await hello("instance-2") == (200, "")
    assert await hello("instance-1", again=True) == (409, "superseded")
    assert await hello("instance-2", again=True) == (200, "")


async def test_destroyed_agent_is_hung_up_on(hive: Daemon) -> None:
    """Connections of a destroyed agent end, a long poll on them too, and its socket is gone."""
    reader, writer = await asyncio.open_unix_connection(str(hive.core_socket("ann")))
    await hive.ask("POST", "/v1/harness/hello", {"instance": INSTANCE, "version": "1"}, agent="ann")
    body = b'{"instance": "instance-1", "wait_seconds": 60}'
    writer.write(b"POST /v1/messages/receive HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    await hive.ask("POST", "/v1/agents/ann/destroy")
    async with asyncio.timeout(10):
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
    assert not rest.startswith(b"HTTP/1.1 200")
    writer.close()
    with pytest.raises(FileNotFoundError):
        await exchange(hive.core_socket("ann"), b"")


async def test_what_is_kept_is_listed_and_purged(hive: Daemon) -> None:
    """A destroyed agent's files are listed with its waiting messages, and go with a purge; others cannot be purged."""
    await hive.ask("POST", "/v1/messages", {"to": "ann", "body": "later"})
    assert await hive.ask("GET", "/v1/kept") == {"agents": []}
    assert (await hive.request("POST", "/v1/kept/ann/purge"))[1]["error"]["code"] == "agent_exists"
    await hive.ask("POST", "/v1/agents/ann/destroy")
    assert await hive.ask("GET", "/v1/kept") == {"agents": [{"name": "ann", "unacked": 1}]}
    answer = await hive.ask("POST", "/v1/kept/ann/purge")
    assert answer == {"name": "ann", "purged": True, "dropped_messages": 1}
    assert not (hive.state_dir / "agents" / "ann").exists()
    assert not (hive.state_dir / "applied" / "ann.git").exists()
    assert (await hive.request("POST", "/v1/kept/ann/purge"))[1]["error"]["code"] == "nothing_kept"
    assert (await hive.request("POST", "/v1/kept/..%2Fann/purge"))[1]["error"]["code"] == "bad_name"
    await hive.spawn("ann", start=False)
    assert (await hive.agents())["ann"]["deployment"] == 0, "numbers begin again"


async def test_preview_shows_the_files_and_makes_nothing(hive: Daemon) -> None:
    """A preview is what a spawn of the same request would begin with; it refuses what the spawn would refuse."""
    request = {"name": "cy", "config": {"backend": "claude", "allowed_recipients": ["nobody"]}, "packages": ["nodejs"]}
    found = await hive.ask("POST", "/v1/spawn/preview", request)
    assert "pkgs.nodejs" in found["files"]["agent.nix"]
    assert 'backend = "claude"' in found["files"]["agent.toml"]
    assert any("nobody" in warning for warning in found["warnings"])
    assert "cy" not in await hive.agents()
    assert not (hive.state_dir / "applied" / "cy.git").exists()
    assert (await hive.request("POST", "/v1/spawn/preview", {"name": "ann"}))[1]["error"]["code"] == "agent_exists"
