"""What the daemon refuses to start on, and what it starts again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.helpers.real_daemon import Daemon, running


async def refusal(daemon: Daemon) -> str:
    """Start a daemon that must refuse by itself; what it said."""
    before = len(daemon.log_text())
    daemon.launch()
    assert await daemon.ended() == 1
    return daemon.log_text()[before:]


@pytest.fixture
async def stopped(hive_home: Path) -> AsyncIterator[Daemon]:
    """A hive with dozens of pages of messages, whose daemon has ended in good order."""
    async with running(Daemon(hive_home)) as daemon:
        await daemon.spawn("ann", start=False)
        for number in range(100):
            await daemon.ask("POST", "/v1/messages", {"to": "ann", "body": f"{number} " + "x" * 1_000})
        assert await daemon.terminate() == 0
        yield daemon


async def test_a_second_daemon_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    """Two daemons on one state directory: the second says who has it and ends with 1, the first goes on."""
    await daemon.spawn("ann", start=False)
    other = Daemon(tmp_path, state_dir=daemon.state_dir)
    try:
        said = await refusal(other)
    finally:
        await other.close()
    assert said.startswith(f"hive-c0re: another hive-c0re (process {daemon.pid}) is using {daemon.state_dir}")
    assert "Traceback" not in said
    assert (await daemon.ask("GET", "/healthz"))["status"] == "ok"
    assert (await daemon.ask("GET", "/v1/whoami", agent="ann"))["name"] == "ann"


async def test_a_run_directory_is_one_daemons(daemon: Daemon, tmp_path: Path) -> None:
    """A daemon of another state directory does not take the sockets of the first, which goes on."""
    other = Daemon(tmp_path, state_dir=tmp_path / "other")
    other.run_dir = daemon.run_dir
    try:
        said = await refusal(other)
    finally:
        await other.close()
    holder = f"process {daemon.pid} of {daemon.state_dir}"
    assert said.startswith(f"hive-c0re: another hive-c0re ({holder}) is using {daemon.run_dir}")
    assert (await daemon.ask("GET", "/v1/status"))["pid"] == daemon.pid


async def test_a_newer_schema_is_refused(stopped: Daemon) -> None:
    """A database that a newer program has written is left alone."""
    with sqlite3.connect(stopped.database) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    said = await refusal(stopped)
    assert said.startswith("hive-c0re: the database has schema 999, this program knows schemas up to ")
    assert stopped.sql("PRAGMA user_version") == [(999,)]


def overwritten_page(content: bytearray) -> bytearray:
    """A page in the middle of the file is not what it was."""
    middle = len(content) // 4096 // 2 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    return content


def overwritten_header(content: bytearray) -> bytearray:
    """The first bytes, which say that this is a database."""
    content[:100] = b"\xa5" * 100
    return content


def cut_in_half(content: bytearray) -> bytearray:
    """The end is missing."""
    return content[: len(content) // 4096 // 2 * 4096]


@pytest.mark.parametrize("damage", [overwritten_page, overwritten_header, cut_in_half])
async def test_a_damaged_database_is_refused(stopped: Daemon, damage: Callable[[bytearray], bytearray]) -> None:
    """The daemon says that the file is damaged and what to do, and does not change a byte of it."""
    content = bytes(damage(bytearray(stopped.database.read_bytes())))
    stopped.database.write_bytes(content)
    said = await refusal(stopped)
    assert said.startswith(f"hive-c0re: {stopped.database} is damaged: ")
    assert "restore a backup" in said
    assert "Traceback" not in said
    assert hashlib.sha256(stopped.database.read_bytes()).digest() == hashlib.sha256(content).digest()


async def test_a_restart_starts_the_agents_that_ran(daemon: Daemon) -> None:
    """After a kill as after a stop, agents that ran run again and handle what waited, and stopped ones stay stopped."""
    await daemon.spawn("ann")
    await daemon.spawn("bob")
    await daemon.ask("POST", "/v1/agents/bob/stop")
    for end in (daemon.kill, daemon.terminate):
        before = await daemon.agent_until("ann", lambda agent: agent["state"] == "idle")
        await daemon.ask("POST", "/v1/messages", {"to": "bob", "body": "waits"})
        await end()
        await daemon.orphans_gone(20)
        await daemon.start()
        sent = await daemon.ask("POST", "/v1/messages", {"to": "ann", "body": "there?"})
        answer = await daemon.ask("GET", f"/v1/messages/{sent['id']}/reply?wait_seconds=30")
        assert answer["reply"]["body"] == "ann heard: there?"
        agents = await daemon.agents()
        assert agents["ann"]["pid"] != before["pid"]
        assert agents["bob"]["lifecycle"] == "stopped"
    assert (await daemon.agents())["bob"]["unacked"] == 2


async def test_while_starting_no_recipient_is_missing(daemon: Daemon) -> None:
    """An agent's socket answers only when all agents are known: no send is refused, no broadcast is cut short."""
    names = [f"a{number}" for number in range(30)]
    for name in names:
        await daemon.spawn(name, start=False)
    await daemon.terminate()
    daemon.launch()
    # Connected as soon as the first socket is there; a client of the library would be too slow for that.
    place = daemon.core_socket(names[0])
    deadline = time.monotonic() + 30
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(place)
            break
        except OSError:
            assert daemon.running and time.monotonic() < deadline
            await asyncio.sleep(0)
    body = json.dumps({"to": "*", "body": "good morning"}).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["recipients"] == sorted(names[1:])
    await daemon.ready()


async def test_a_purge_that_was_killed_is_finished_by_the_next_daemon(daemon: Daemon) -> None:
    """SIGKILL during a purge: the agent is gone, and soon all that it had; its name starts with nothing."""
    await daemon.spawn("ann", start=False)
    state = daemon.state_dir / "agents" / "ann" / "state"
    for number in range(200):
        inner = state / f"{number}"
        inner.mkdir()
        for file in range(100):
            (inner / f"{file}").touch()
    await daemon.ask("POST", "/v1/messages", {"to": "ann", "body": "hello"})
    purge = asyncio.ensure_future(daemon.request("POST", "/v1/agents/ann/destroy", {"purge": True}))
    trash = daemon.state_dir / "trash"
    deadline = time.monotonic() + 30
    while not (trash.exists() and any(trash.iterdir())):
        assert not purge.done() and time.monotonic() < deadline
        await asyncio.sleep(0)
    await daemon.kill()
    with suppress(aiohttp.ClientError, OSError):
        await purge
    assert any(trash.iterdir()), "the purge was over before the kill"
    await daemon.start()
    assert await daemon.agents() == {}
    assert daemon.sql("SELECT * FROM purges") == daemon.sql("SELECT * FROM deliveries") == []
    await daemon.spawn("ann", start=False)
    assert list(state.iterdir()) == []
    deadline = time.monotonic() + 30
    while any(trash.iterdir()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_hostile_nest_is_purged(daemon: Daemon) -> None:
    """An agent that nests 1,500 directories can be purged like any other; its successor inherits nothing."""
    await daemon.spawn("ann", start=False)
    state = daemon.state_dir / "agents" / "ann" / "state"
    here = os.open(state, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("x" * 255, dir_fd=here)
        inner = os.open("x" * 255, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    answer = await daemon.ask("POST", "/v1/agents/ann/destroy", {"purge": True})
    assert answer["purged"]
    assert list((daemon.state_dir / "trash").iterdir()) == []
    await daemon.spawn("ann", start=False)
    assert list(state.iterdir()) == []


async def test_an_agent_of_the_first_daemon_starts(hive_home: Path) -> None:
    """The daemon starts on a database of the first schema's first text, and runs its agent, which gets its message."""
    daemon = Daemon(hive_home)
    daemon.state_dir.mkdir(mode=0o700)
    schema = Path(__file__).parents[2] / "unit/core/infra/database/schemas/first_step_1.sql"
    connection = sqlite3.connect(daemon.database, isolation_level=None)
    connection.executescript(f"BEGIN; {schema.read_text()} PRAGMA user_version = 1; COMMIT;")
    config = json.dumps({"backend": "scripted", "model": None, "tools": ["Bash"], "script": []})
    columns = "name, kind, desired, config, prompt, deployment, instance, created_at"
    connection.execute(
        f"INSERT INTO agents ({columns}) VALUES ('ada', 'agent', 'running', ?, 'You are ada.', 0, NULL, 1)", (config,)
    )
    connection.execute("INSERT INTO web_ports VALUES ('ada', 8142)")
    connection.execute("INSERT INTO messages (sender, recipient, body, sent_at) VALUES ('operator', 'ada', 'hi', 1)")
    connection.execute("INSERT INTO deliveries (message, recipient) VALUES (1, 'ada')")
    connection.close()
    async with running(daemon):
        answer = await daemon.ask("GET", "/v1/messages/1/reply?wait_seconds=30")
        assert answer["reply"]["body"] == "ada heard: hi"
