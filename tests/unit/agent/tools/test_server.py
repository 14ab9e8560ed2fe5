"""The MCP server as an agent CLI sees it, driven by the SDK's client; as a program, where that is what matters."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

from hive_agent.client import fetched_messages
from hive_core.protocol.models.budgets import BudgetAnswer, LimitState
from tests.unit.agent.fake_core_api import FakeCore, refusal
from tests.unit.agent.tools.tool_client import INSTANCE, program, text, tools


async def test_send(core: FakeCore, tmp_path: Path) -> None:
    """`send` is one message in the hive, with a key of its own for each call."""
    async with tools(core, tmp_path) as client:
        for _ in range(2):
            result = await client.call_tool("send", {"to": "bob", "body": "hi", "reply_to": 3})
            assert not result.is_error
            assert "to bob as message" in text(result)
    assert [(sent.to, sent.body, sent.reply_to) for sent in core.sent] == [("bob", "hi", 3)] * 2
    assert len({sent.idempotency_key for sent in core.sent}) == 2


async def test_send_waits_for_the_daemon(core: FakeCore, tmp_path: Path) -> None:
    """A daemon that is restarting is waited for, and the message is stored once."""
    async with tools(core, tmp_path) as client:
        core.refusals["POST /v1/messages"] = refusal(503, "stopping", "going down")

        waiting = asyncio.create_task(client.call_tool("send", {"to": "bob", "body": "hi"}))
        await core.until(lambda: core.calls.count("POST /v1/messages") >= 2)
        core.refusals.clear()
        result = await waiting
    assert not result.is_error
    assert len(core.sent) == 1


async def test_refusals_are_tool_errors(core: FakeCore, tmp_path: Path) -> None:
    """What the hive refuses, and arguments that cannot be right, are errors in words with what to do."""
    core.refusals["POST /v1/messages"] = refusal(403, "recipient_not_allowed", "alice may not send to bob", "ask hm1nd")
    async with tools(core, tmp_path) as client:
        result = await client.call_tool("send", {"to": "bob", "body": "hi"})
        assert result.is_error
        assert "alice may not send to bob" in text(result)
        assert "ask hm1nd" in text(result)
        result = await client.call_tool("send", {"to": "../x", "body": "hi"})
        assert result.is_error
        assert "list_agents" in text(result)
        result = await client.call_tool("recv", {"wait_seconds": 10_000})
        assert result.is_error
    assert core.sent == []


async def test_recv(core: FakeCore, tmp_path: Path) -> None:
    """`recv` leases to the harness's instance, shows the messages and notes their ids for the harness."""
    number = await core.deliver("news", sender="bob", reply_to=1)
    async with tools(core, tmp_path) as client:
        result = await client.call_tool("recv", {"max": 5})
        assert f"message {number} from bob" in text(result)
        assert "news" in text(result)
        assert "No new messages" in text(await client.call_tool("recv", {}))
    assert core.messages[number].holder == INSTANCE
    assert fetched_messages.read(tmp_path, INSTANCE) == [number]


async def test_recv_without_harness(core: FakeCore, tmp_path: Path) -> None:
    """Outside of a harness `recv` says that there is none, and leases nothing."""
    await core.deliver("news")
    async with tools(core, tmp_path, instance="") as client:
        result = await client.call_tool("recv", {})
    assert result.is_error
    assert "No harness" in text(result)
    assert core.calls == []


async def test_looks(core: FakeCore, tmp_path: Path) -> None:
    """`whoami` and `list_agents` tell what the hive says."""
    async with tools(core, tmp_path) as client:
        assert "name: alice" in text(await client.call_tool("whoami", {}))
        assert "bob (agent): stopped, offline; its status:\n> done with it" in text(
            await client.call_tool("list_agents", {})
        )


async def test_an_agent_sees_its_budget(core: FakeCore, tmp_path: Path) -> None:
    """`whoami` tells what is left of each limit, and no budget where the hive has none."""
    limits = [
        LimitState(whose="alice", measure="money", period="day", limit=5, spent=4.1, reserved=0.2),
        LimitState(whose="alice", measure="calls", period="total", limit=1_000, spent=1_001),
    ]
    async with tools(core, tmp_path) as client:
        assert "budget" not in text(await client.call_tool("whoami", {}))
        answer = BudgetAnswer(agent="alice", limits=limits, day_ends_at=datetime(2026, 12, 1, tzinfo=UTC))
        core.raw["GET /v1/budget"] = answer.model_dump_json()
        told = text(await client.call_tool("whoami", {}))
    assert "budget: $0.70 left of $5.00 a day (UTC)\nbudget: 0 calls left of 1,000 calls in all" in told


async def test_only_the_manager_has_the_managers_tools(core: FakeCore, tmp_path: Path) -> None:
    """hive-m1nd offers every tool of hive-ag3nt, and its own."""
    async with program(core, tmp_path) as client:
        agents = {tool.name for tool in (await client.list_tools()).tools}
    async with program(core, tmp_path, "hive_manager") as client:
        managers = {tool.name for tool in (await client.list_tools()).tools}
        assert "bob is running, 2 messages wait" in text(await client.call_tool("restart", {"name": "bob"}))
        assert "bob is stopped" in text(await client.call_tool("stop", {"name": "bob"}))
        assert (await client.call_tool("start", {"name": "../bob"})).is_error
        logs = text(await client.call_tool("agent_logs", {"name": "bob", "lines": 7}))
    open_things = {"ask_operator", "remind", "cancel_reminder", "list_open", "set_status", "read_logs"}
    proposing = {"propose_config", "my_proposals", "withdraw"}
    work = {"submit_work", "show_work", "comment_on_work", "withdraw_work", "approve_work", "deny_work"}
    network = {"request_network", "list_network_requests"}
    assert agents == {"send", "recv", "whoami", "list_agents", "my_work"} | proposing | open_things | work | network
    review = {"list_proposals", "show_proposal", "approve", "deny", "rollback", "rebuild"}
    review |= {"list_work", "approve_network", "deny_network"}
    assert managers == agents | review | {"start", "stop", "restart", "agent_logs", "request_spawn", "request_destroy"}
    assert [call for call in core.calls if "agents/" in call] == [
        "POST /v1/agents/bob/restart",
        "POST /v1/agents/bob/stop",
        "GET /v1/agents/bob/logs",
    ]
    assert re.search(r"^--- [0-9a-f]{16} begin: log, in the words of bob$", logs, re.MULTILINE)
    assert logs.startswith("[the last 260 of 1000 lines, which have 114999 characters; for those before: skip=260]")
    assert "lines=7 00999" in logs


async def test_working_directory_cannot_replace_the_tools(core: FakeCore, tmp_path: Path) -> None:
    """Modules that the agent writes into its working directory are not what the server runs."""
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    (tmp_path / "mcp.py").write_text("raise SystemExit(3)")
    async with program(core, tmp_path) as client:
        assert "name: alice" in text(await client.call_tool("whoami", {}))
