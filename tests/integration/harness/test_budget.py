"""A real agent whose budget is spent: it waits, an operator adds money, and it goes on."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hive_core.protocol.models.budgets import BudgetRefusal
from hive_core.services.relay.apis.errors import budget_message
from tests.helpers.fake_messages_api import ApiError, Blocks, Text, model_server
from tests.helpers.real_daemon import Daemon, running
from tests.integration.backends.claude_code import MODEL, needs_claude
from tests.unit.core.cli.run_cli import Program

pytestmark = [needs_claude, pytest.mark.thorough, pytest.mark.timeout(120)]

SETTINGS = {
    "pass_environment": "ANTHROPIC_BASE_URL,ANTHROPIC_API_KEY,CLAUDE_CODE_MAX_RETRIES",
    "relay": '{"providers": {"main": {"api": "anthropic", "base_url": "http://127.0.0.1:9"}}}',
    "budget": '{"agents": {"money_per_day": 5}}',
}


async def test_an_agent_waits_for_money(hive_home: Path) -> None:
    """Real Claude Code is refused by the budget: its message is kept, `list` has the time at which it goes on, and
    `budget --add` lets it go on at once, not only then.
    """
    money = False
    until = int(time.time()) + 3_600
    refusal = BudgetRefusal(
        whose="ada", measure="money", period="day", limit=5, spent=4.9, reserved=0, reserve=0.2, until=until
    )

    async def model(_: dict[str, Any]) -> Blocks | ApiError:
        return [Text("done")] if money else ApiError(403, "permission_error", budget_message("ada", refusal))

    async with model_server(model) as server:
        environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "ANTHROPIC_BASE_URL": server.url,
            "ANTHROPIC_API_KEY": "test",
            "CLAUDE_CODE_MAX_RETRIES": "0",
        }
        async with running(Daemon(hive_home, settings=SETTINGS, environment=environment)) as daemon:
            hive = Program(daemon.host_socket)
            config = {"backend": "claude", "model": MODEL}
            await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": config})
            await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "count"})
            agent = await daemon.agent_until("ada", lambda agent: agent["state"] == "budget", 60)
            assert agent["unacked"] == 1
            assert agent["detail"] == budget_message("ada", refusal)
            assert datetime.fromisoformat(agent["goes_on_at"]).timestamp() > time.time()
            assert "goes on at" in (await hive.run("list")).out
            assert (await daemon.ask("GET", "/v1/messages"))["messages"] == []
            money = True
            ended = await hive.run("budget", "ada", "--add", "5", "--note", "finish")
            assert (ended.code, ended.out.splitlines()[0]) == (0, "ada may spend $5.00 more, today and in all")
            await daemon.agent_until("ada", lambda agent: agent["state"] == "idle" and agent["unacked"] == 0, 60)
