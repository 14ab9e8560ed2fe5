"""Turns with the real daemon and real harnesses: told to whoever watches, and gone on with after a kill."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.harness.page_client import watching

TURNS = 200
_WINDOW = 40
"""Turns over which memory is averaged."""


def turn_is(number: int, state: str) -> Callable[[str, dict[str, Any]], bool]:
    return lambda kind, data: kind == "turn" and (data["id"], data["state"]) == (number, state)


async def test_a_turn_is_told_to_who_watches(daemon: Daemon) -> None:
    """Whoever watches the page sees how things stand, then the turn, its message, each call and its result, and the
    end; who comes later finds the same in the history.
    """
    await daemon.spawn("ada", script=[{"send": [{"to": "operator", "text": "You said: {body}"}]}])
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
    async with watching(daemon, "ada") as page:
        now = await page.until(lambda kind, _data: kind == "now")
        assert (now["snapshot"]["name"], now["snapshot"]["state"]) == ("ada", "idle")
        await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "<script>\x1b[2J"})
        done = await page.until(turn_is(1, "ok"))
        told = [(data["kind"], data.get("text", data.get("name"))) for kind, data in page.seen if kind == "entry"]
        assert told[0] == ("message", "<script>\x1b[2J")
        assert ("call", "send") in told
        assert told[-1][0] == "result"
        assert next(data["state"] for kind, data in page.seen if kind == "turn") == "running"
        assert done["tool_calls"] == 1
        await page.until(lambda kind, data: kind == "state" and data["state"] == "idle")
        states = [data["state"] for kind, data in page.seen if kind == "state"]
        assert states == ["thinking", "idle"]
    async with watching(daemon, "ada") as late:
        listed = await late.get("turns")
        assert [(turn["id"], turn["state"]) for turn in listed["turns"]] == [(1, "ok")]
        kept = await late.get("transcript?turn=1")
        assert [(entry["kind"], entry.get("text", entry.get("name"))) for entry in kept["entries"]] == told


async def test_a_killed_harness_goes_on_with_its_turn(daemon: Daemon) -> None:
    """Killed in a turn, the harness is started again, and the turn goes on as another attempt; one answer comes."""
    script = [{"think": 1.0, "send": [{"to": "operator", "text": "You said: {body}"}]}]
    await daemon.spawn("ada", script=script)
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
    asked = await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "hello"})
    status = await daemon.agent_until("ada", lambda agent: agent["state"] == "thinking")
    os.kill(status["pid"], signal.SIGKILL)
    await daemon.agent_until("ada", lambda agent: agent["unacked"] == 0 and agent["state"] == "idle")
    answers = daemon.sql("SELECT body, reply_to FROM messages WHERE recipient = 'operator' AND sender = 'ada'")
    assert answers == [("You said: hello", asked["id"])]
    async with watching(daemon, "ada") as page:
        [turn] = (await page.get("turns"))["turns"]
        assert (turn["id"], turn["attempt"], turn["state"]) == (1, 2, "ok")
    index = (daemon.state_dir / "agents/ada/state/turns/index.jsonl").read_text().splitlines()
    assert json.loads(index[-1])["interrupted"] == 1, "the hive had not stopped it"


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_many_turns(daemon: Daemon, record_property: Callable[[str, object], None]) -> None:
    """Of 200 turns, among them bursts and one with somebody watching, each message is answered once and in order, and
    the harness's memory stays flat.
    """
    await daemon.spawn("ada", script=[{"send": [{"to": "operator", "text": "answer {body}"}]}])
    pid = (await daemon.agent_until("ada", lambda agent: agent["state"] == "idle"))["pid"]
    harness = psutil.Process(pid)
    resident: list[float] = []
    sent = 0
    for number in range(TURNS):
        for _ in range(20 if number % 50 == 25 else 1):
            await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": f"{sent} {'x' * 1_000}"})
            sent += 1
        status = await daemon.agent_until("ada", lambda agent: agent["unacked"] == 0 and agent["state"] == "idle")
        assert (status["pid"], status["restarts"]) == (pid, 0)
        if number == 5:
            async with watching(daemon, "ada") as page:
                await page.until(lambda kind, _data: kind == "now")
        resident.append(harness.memory_info().rss / 1e6)
    answers = daemon.sql("SELECT body FROM messages WHERE recipient = 'operator' AND sender = 'ada' ORDER BY id")
    assert [int(body.split()[1]) for (body,) in answers] == list(range(sent))
    early = sum(resident[_WINDOW : 2 * _WINDOW]) / _WINDOW
    late = sum(resident[-_WINDOW:]) / _WINDOW
    record_property("harness, MB", [round(sample, 1) for sample in resident[::10]])
    assert late < early * 1.05, f"it grew from {early:.1f} to {late:.1f} MB: {resident[::10]}"
    turns = daemon.state_dir / "agents" / "ada" / "state" / "turns"
    assert sum(entry.stat().st_size for entry in os.scandir(turns)) < 5e6
