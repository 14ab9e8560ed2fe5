"""One agent does its worst with messages, and the others do not notice."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.fairness.flood import flood

MIB = 1024 * 1024
BODY = "x" * (256 * 1024)
ALLOWED_REFUSALS = {"ok", "sending_too_fast", "too_many_waiting", "too_many_questions", "too_many_reminders"}


def database_bytes(daemon: Daemon) -> int:
    """The database with its write-ahead log."""
    return sum(path.stat().st_size for path in daemon.state_dir.glob("hive.sqlite*"))


async def texts_to_operator(daemon: Daemon, sender: str) -> list[str]:
    """The bodies of what somebody has sent to the operator."""
    query = "SELECT body FROM messages WHERE recipient = 'operator' AND sender = ? ORDER BY id"
    return [body for (body,) in daemon.sql(query, sender)]


@pytest.mark.parametrize("share", [50, 10**9])
async def test_a_flooded_operator_still_hears_of_others(hive_home: Path, share: int) -> None:
    """While one agent fills the operator's inbox, the hive's alarm arrives; with shares another may ask as well."""
    per_minute = 10**9
    budgets = {"messages_per_minute": per_minute, "messages_per_minute_to_one": per_minute}
    budgets |= {"unacknowledged": per_minute, "unacknowledged_to_one": share}
    settings = {"inbox_limit": 200, "budgets": json.dumps(budgets)}
    async with running(Daemon(hive_home, settings=settings)) as daemon:
        await daemon.spawn("ada", start=False)
        await daemon.spawn("bob", start=False)
        await daemon.spawn("cleo")
        await daemon.agent_until("cleo", lambda one: one["state"] == "idle")
        message = ("/v1/messages", {"to": "operator", "body": "me again"})
        flooding = asyncio.create_task(flood(daemon.core_socket("ada"), [message], 4.0))
        await asyncio.sleep(3.0)
        for process in psutil.Process(daemon.pid).children(recursive=True):
            process.kill()
        status, answer = await daemon.request("POST", "/v1/questions", {"text": "May I?"}, agent="bob")
        answered = await flooding
        assert answered["ok"] == min(share, 180)
        expected = (200, None) if share == 50 else (429, "inbox_full")
        assert (status, answer.get("error", {}).get("code")) == expected
        deadline = time.monotonic() + 20
        while not any("cleo crashed" in text for text in await texts_to_operator(daemon, "system")):
            assert time.monotonic() < deadline, "the operator was not told of the crash"
            await asyncio.sleep(0.05)


async def test_large_bodies_are_bounded(daemon: Daemon) -> None:
    """An agent that sends 256 KiB as fast as it can to everybody, itself too, grows the database by a bounded part."""
    for name in ("ada", "bob", "cleo"):
        await daemon.spawn(name, start=False)
    before = database_bytes(daemon)
    recipients = ("bob", "cleo", "operator", "ada", "*")
    requests: list[tuple[str, Json]] = [("/v1/messages", {"to": to, "body": BODY}) for to in recipients]
    requests += [("/v1/wake", {"label": "job", "body": BODY[:-100]})]
    requests += [("/v1/questions", {"text": "q" * 10_000}), ("/v1/reminders", {"text": "r" * 4_000, "after": 0.0})]
    answered = await flood(daemon.core_socket("ada"), requests, 8.0)
    assert set(answered) <= ALLOWED_REFUSALS
    assert answered["sending_too_fast"] > answered["ok"]
    (stored,) = daemon.sql("SELECT sum(length(CAST(body AS BLOB))) FROM messages WHERE sender = 'ada'")[0]
    assert stored <= 16 * MIB * (1 + 10 / 60) + len(BODY)
    assert database_bytes(daemon) - before < 64 * MIB


async def test_reminders_that_come_and_go_are_bounded(hive_home: Path) -> None:
    """Setting and cancelling reminders spends the same budget as sending."""
    settings = {"budgets": json.dumps({"messages_per_minute_to_one": 50})}
    async with running(Daemon(hive_home, settings=settings)) as daemon:
        await daemon.spawn("ada", start=False)
        began, accepted = time.monotonic(), 0
        while True:
            body = {"text": "later", "after": 3_600.0}
            status, answer = await daemon.request("POST", "/v1/reminders", body, agent="ada")
            if status != 200:
                break
            accepted += 1
            await daemon.ask("POST", f"/v1/reminders/{answer['id']}/cancel", agent="ada")
        assert answer["error"]["code"] == "sending_too_fast"
        assert 50 <= accepted <= 51 + (time.monotonic() - began) * 50 / 60


async def test_status_texts_are_no_way_round(daemon: Daemon) -> None:
    """An agent that changes its status as fast as it can is refused, and the stream of events is not flooded."""
    await daemon.spawn("ada", start=False)
    requests: list[tuple[str, Json]] = [("/v1/harness/status", {"text": f"at {number}"}) for number in range(200)]
    answered = await flood(daemon.core_socket("ada"), requests, 2.0)
    assert set(answered) == {"ok", "sending_too_fast"}
    assert daemon.sql("SELECT count(*) FROM agents WHERE status LIKE 'at %'") == [(1,)]


async def test_a_full_database_refuses_agents_only(hive_home: Path) -> None:
    """At its limit an agent is refused, the operator is warned, writes, reads and decides, and space comes back."""
    budgets = json.dumps({"bytes_per_minute": 10**9, "bytes_per_minute_to_one": 10**9})
    settings = {"database_limit": "8M", "budgets": budgets, "retention_days": 0.0}
    async with running(Daemon(hive_home, settings=settings)) as daemon:
        await daemon.spawn("ada", start=False)
        await daemon.spawn("bob", start=False)
        codes = await flood(daemon.core_socket("ada"), [("/v1/messages", {"to": "bob", "body": BODY})], 1.0)
        assert codes["database_full"] > 0
        for path, body in (
            ("/v1/questions", {"text": "May I?"}),
            ("/v1/reminders", {"text": "x", "after": 60.0}),
            ("/v1/wake", {"label": "job", "body": "x"}),
        ):
            status, answer = await daemon.request("POST", path, body, agent="bob")
            assert (path, status, answer["error"]["code"]) == (path, 507, "database_full")
        ticket = await daemon.ask("POST", "/v1/agents/ada/page-tickets")
        entered = await daemon.ask("POST", "/v1/page/enter", {"ticket": ticket["ticket"]}, agent="ada")
        typed = {"session": entered["session"], "body": "as if the operator wrote", "idempotency_key": "k"}
        status, answer = await daemon.request("POST", "/v1/page/send", typed, agent="ada")
        assert (status, answer["error"]["code"]) == (507, "database_full")
        await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "stop that"})
        await daemon.ask("POST", "/v1/agents", {"name": "cleo", "start": False})
        deadline = time.monotonic() + 20
        while not (warnings := await texts_to_operator(daemon, "system")):
            assert time.monotonic() < deadline, "the operator was not warned"
            await asyncio.sleep(0.1)
        (warning,) = warnings
        assert re.match(r"The database has reached 1\d\d % of database_limit \(8\.\d MiB of 8\.0 MiB\)\.", warning)
        status_answer = await daemon.ask("GET", "/v1/status")
        assert 8 * MIB <= status_answer["database_bytes"] < 9 * MIB and status_answer["database_limit"] == 8 * MIB

        hello = {"instance": "instance-1", "version": "1"}
        await daemon.ask("POST", "/v1/harness/hello", hello, agent="bob")
        while ids := [
            one["id"]
            for one in (await daemon.ask("POST", "/v1/messages/receive", {"instance": "instance-1"}, agent="bob"))[
                "deliveries"
            ]
        ]:
            await daemon.ask("POST", "/v1/messages/ack", {"instance": "instance-1", "ids": ids}, agent="bob")
        assert await daemon.terminate() == 0
        await daemon.start()  # Its retention removes what is acknowledged.
        deadline = time.monotonic() + 20
        while (await daemon.request("POST", "/v1/questions", {"text": "Now?"}, agent="bob"))[0] != 200:
            assert time.monotonic() < deadline, "no space came back"
            await asyncio.sleep(0.1)
