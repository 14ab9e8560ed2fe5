"""Budgets of agents of a real daemon, whose calls go through the relay that the daemon runs."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from hive_core.outside.models.vendor_refusals import MOST_REFUSALS
from tests.helpers.fake_messages_api import Blocks, Text, model_server
from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.backends.agent_clis import CLAUDE, each
from tests.integration.relay.test_daemon import relay_settings, vendor_of, with_program
from tests.unit.core.cli.run_cli import Program

pytestmark = [
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="nothing can be sealed"),
    pytest.mark.timeout(200),
    pytest.mark.thorough,
]
claude = pytest.mark.parametrize("_cli", each(CLAUDE))


async def begin(hive: Daemon) -> None:
    """Create ada with Claude Code and the provider, and give her a message."""
    config = {"backend": "claude", "model": CLAUDE.model, "provider": "vendor", "network": "sealed"}
    await hive.ask("POST", "/v1/agents", {"name": "ada", "config": config})
    await hive.ask("POST", "/v1/messages", {"to": "ada", "body": "count the animals"})


async def reaches(hive: Daemon, state: str) -> Json:
    return await hive.agent_until("ada", lambda agent: agent["state"] == state, 90)


async def told(hive: Daemon) -> list[str]:
    """The messages of the hive to the operator."""
    inbox = await hive.ask("GET", "/v1/messages")
    return [each["body"] for each in inbox["messages"] if each["sender"] == "system"]


@claude
async def test_a_budget_is_spent_and_raised(hive_home: Path, _cli: object) -> None:
    """An agent whose budget allows no call waits with its message until tomorrow; the operator is told once, adds
    money, and the agent goes on at once. `usage`, `list` and the tool's route show what it has spent.
    """

    async def model(_: dict[str, Any]) -> Blocks:
        return [Text("two sheep")]

    async with model_server(model) as served, vendor_of(served) as url:
        settings = relay_settings(hive_home, url, "anthropic")
        settings["budget"] = json.dumps({"agents": {"money_per_day": 0.001}})
        passed = with_program(CLAUDE, settings)
        async with running(Daemon(hive_home, settings=settings, environment=passed)) as hive:
            run = Program(hive.host_socket).run
            await begin(hive)
            ada = await reaches(hive, "budget")
            assert ada["unacked"] == 1
            assert ada["detail"].startswith("hyperhive budget: ada's spending limit of $0.001 a day does not allow")
            day_ends = (await hive.ask("GET", "/v1/budget"))["day_ends_at"]
            waits = datetime.fromisoformat(ada["goes_on_at"]) - datetime.fromisoformat(day_ends)
            assert abs(waits.total_seconds()) < 60
            (text,) = await told(hive)
            assert "hive-c0re budget ada --add AMOUNT" in text
            assert served.requests == []
            assert (await run("budget", "ada", "--add", "5")).code == 0
            await hive.agent_until("ada", lambda agent: agent["state"] == "idle" and agent["unacked"] == 0, 90)
            own = (await hive.ask("GET", "/v1/budget", agent="ada"))["limits"]
            assert [(limit["whose"], limit["limit"], limit["spent"] > 0) for limit in own] == [("ada", 5.001, True)]
            usage = (await run("usage", "ada", "--by", "model")).out
            assert "claude-sonnet-4-5" in usage
            assert "TODAY" in (await run("list")).out
            assert len(await told(hive)) == 1


@claude
@pytest.mark.parametrize("mended_by", ["resume", "a new relay"])
async def test_a_vendor_that_refuses_the_key(hive_home: Path, _cli: object, mended_by: str) -> None:
    """After five refusals the vendor hears nothing more, and the operator is told once; when the key is replaced, the
    agent goes on by itself with the relay that has read it, or with `resume`.
    """

    async def model(_: dict[str, Any]) -> Blocks:
        return [Text("two sheep")]

    async with model_server(model) as served, vendor_of(served) as url:
        settings = relay_settings(hive_home, url, "anthropic")
        key = hive_home / "keys" / "vendor-key"
        right, _ = key.read_text(), key.write_text("sk-wrong")
        passed = with_program(CLAUDE, settings)
        async with running(Daemon(hive_home, settings=settings, environment=passed)) as hive:
            run = Program(hive.host_socket).run
            await begin(hive)
            for number in range(1, MOST_REFUSALS + 2):
                await reaches(hive, "paused")
                # The end of a call may be told after the harness has reported what it led to.
                most = min(number, MOST_REFUSALS)
                await hive.agent_until("ada", lambda _, most=most: refused(hive) == most)  # type: ignore[misc]
                if number <= MOST_REFUSALS:  # Whoever chooses a model ends the pause.
                    await hive.ask("POST", "/v1/agents/ada/control/model", {"model": CLAUDE.model, "effort": None})
                    await reaches(hive, "thinking")
            assert refused(hive) == MOST_REFUSALS, "the vendor hears of five calls only"
            assert (await reaches(hive, "paused"))["detail"].startswith("hyperhive stopped: the provider vendor has")
            assert [text.split(":")[0] for text in await told(hive)].count("ada is stopped") == 1
            assert "ada is stopped" in (await run("budget", "ada")).err
            key.write_text(right)
            (relay,) = [each for each in psutil.Process(hive.pid).children(recursive=True) if is_relay(each)]
            if mended_by == "resume":
                assert (await run("resume", "ada")).code == 0
                # The relay still has the wrong key, so the agent is soon paused again.
                await hive.agent_until("ada", lambda _: refused(hive) > MOST_REFUSALS, 60)
                assert (await hive.ask("GET", "/v1/agents/ada/budget"))["stopped"] == []
            else:
                relay.kill()
                await hive.agent_until("ada", lambda agent: agent["state"] == "idle" and agent["unacked"] == 0, 90)


def refused(hive: Daemon) -> int:
    """Count the calls that the vendor has refused."""
    return int(hive.sql("SELECT count(*) FROM model_calls WHERE status = 401")[0][0])


def is_relay(process: psutil.Process) -> bool:
    """True for the relay's own process."""
    arguments = process.cmdline()
    return "relay" in arguments and "hive_core" in arguments and "bwrap" not in arguments[0]
