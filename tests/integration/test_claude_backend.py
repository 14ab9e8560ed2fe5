"""The claude backend with the real Claude Code and the real MCP server; the model is a server on loopback."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from hive_agent import received
from hive_agent.backends.base import Backend, BackendContext, Failed, NeedsLogin, Ok, Turn
from hive_agent.backends.claude import open_backend
from hive_agent.client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.role import AGENT, Role
from hive_agent.turns import keep_leases, run_turn
from hive_core.protocol import AgentConfig, Delivery, Profile, ReceiveRequest
from hive_manager.role import MANAGER
from tests.integration.claude_code import needs_claude
from tests.integration.model_server import (
    ApiError,
    Blocks,
    Brain,
    Text,
    ToolUse,
    has_tool_result,
    last_user_text,
    model_server,
    tool_results,
)
from tests.unit.agent.stand_in import CoreStandIn, core_stand_in

INSTANCE = "0000-instance"


pytestmark = needs_claude


@asynccontextmanager
async def claude(
    tmp_path: Path, core: CoreStandIn, url: str, *, key: str | None = "test", role: Role = AGENT, **config: Any
) -> AsyncIterator[Backend]:
    """The backend, talking to the model at `url`; without a key it has no credentials at all."""
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "HIVE_AGENT_RUN": str(core.socket.parent),
        "HIVE_AGENT_STATE": str(state),
        "HIVE_AGENT_CLAUDE": str(tmp_path / "claude"),
        "HIVE_PARENT_PID": str(os.getpid()),
        "ANTHROPIC_BASE_URL": url,
        "CLAUDE_CODE_MAX_RETRIES": "0",
    }
    if key is not None:
        variables["ANTHROPIC_API_KEY"] = key
    profile = Profile(
        name=core.name,
        kind=core.kind,
        config=AgentConfig(backend="claude", model="claude-sonnet-4-5-20250929", **config),
        prompt="You count sheep.",
        deployment=1,
        lease_seconds=60.0,
    )
    async with CoreClient(core.socket, patience=5.0) as client:
        backend = open_backend(BackendContext(profile, AgentEnvironment.read(variables), role, client, INSTANCE))
        yield backend
        await backend.close()


def turn(body: str, number: int = 1) -> Turn:
    delivery = Delivery(
        id=number, sender="bob", to="alice", body=body, sent_at=datetime.now(UTC), attempt=1, redelivered=False
    )
    return Turn((delivery,))


async def says(_request: dict[str, Any]) -> Blocks:
    return [Text("done")]


def once(*calls: ToolUse) -> Brain:
    """A model that makes these calls in its first answer, and ends the turn when it has their results."""

    async def brain(request: dict[str, Any]) -> Blocks:
        return [Text("done")] if has_tool_result(request) else list(calls)

    return brain


async def test_message_in_tool_call_out(tmp_path: Path) -> None:
    """A message reaches the model with the agent's identity, and its call of the send tool reaches the hive."""
    send = ToolUse("mcp__hive__send", {"to": "bob", "body": "four sheep", "reply_to": 7})
    async with core_stand_in(tmp_path / "run") as core, model_server(once(send)) as model:
        async with claude(tmp_path, core, model.url) as backend:
            assert await backend.run(turn("how many?", 7)) == Ok()
        assert [(sent.to, sent.body, sent.reply_to) for sent in core.sent] == [("bob", "four sheep", 7)]
        first = model.requests[0]
        assert "how many?" in last_user_text(first)
        assert "message 7 from bob" in last_user_text(first)
        assert "You count sheep." in str(first["system"])
        assert "You are `alice`" in str(first["system"])


async def test_tools_are_the_configured_ones(tmp_path: Path) -> None:
    """The model is offered the hive's tools and those of agent.toml, and no others."""
    async with core_stand_in(tmp_path / "run") as core, model_server(says) as model:
        async with claude(tmp_path, core, model.url, tools=["Read", "Bash(git *)"]) as backend:
            assert await backend.run(turn("hello")) == Ok()
        names = {tool["name"] for tool in model.requests[0]["tools"]}
    messages = {"send", "recv", "whoami", "list_agents"}
    proposals = {"propose_config", "my_proposals", "withdraw"}
    assert names == {f"mcp__hive__{tool}" for tool in messages | proposals} | {"Read", "Bash"}


async def test_manager_has_its_tools(tmp_path: Path) -> None:
    """The manager's model can restart an agent, and is told its duties."""
    restart = ToolUse("mcp__hive__restart", {"name": "bob"})
    run = tmp_path / "run"
    async with core_stand_in(run, name="hm1nd", kind="manager") as core, model_server(once(restart)) as model:
        async with claude(tmp_path, core, model.url, role=MANAGER) as backend:
            assert await backend.run(turn("restart bob")) == Ok()
        assert "POST /v1/agents/bob/restart" in core.calls
        assert "Your duties as the manager" in str(model.requests[0]["system"])


async def test_refusal_reaches_the_model(tmp_path: Path) -> None:
    """A send that the hive refuses is a tool error in words, and the turn goes on."""
    wrong = ToolUse("mcp__hive__send", {"to": "NOT A NAME", "body": "x"})
    async with core_stand_in(tmp_path / "run") as core, model_server(once(wrong)) as model:
        async with claude(tmp_path, core, model.url) as backend:
            assert await backend.run(turn("hello")) == Ok()
        result = tool_results(model.requests[-1])[0]
    assert result["is_error"] is True
    assert "list_agents" in str(result["content"])


async def test_recv_brings_messages_into_the_turn(tmp_path: Path) -> None:
    """A message that came meanwhile is leased to this harness, shown to the model and noted for acknowledgement."""
    recv = ToolUse("mcp__hive__recv", {"wait_seconds": 5})
    async with core_stand_in(tmp_path / "run") as core, model_server(once(recv)) as model:
        number = await core.deliver("one more thing", sender="carol")
        async with claude(tmp_path, core, model.url) as backend:
            assert await backend.run(turn("hello", 99)) == Ok()
        assert core.messages[number].holder == INSTANCE
        assert "one more thing" in str(tool_results(model.requests[-1])[0]["content"])
    assert received.read(tmp_path / "state", INSTANCE) == [number]


async def test_tool_that_is_not_allowed(tmp_path: Path) -> None:
    """A command outside the allowed pattern is denied to the model without a person to ask, and the turn ends."""
    forbidden = ToolUse("Bash", {"command": "touch forbidden", "description": "try"})
    async with core_stand_in(tmp_path / "run") as core, model_server(once(forbidden)) as model:
        async with claude(tmp_path, core, model.url, tools=["Bash(git *)"]) as backend:
            assert await backend.run(turn("hello")) == Ok()
        assert tool_results(model.requests[-1])[0]["is_error"] is True
    assert not (tmp_path / "state" / "forbidden").exists()


async def test_second_turn_continues(tmp_path: Path) -> None:
    """The second turn goes on with the conversation of the first, also with another backend object."""
    async with core_stand_in(tmp_path / "run") as core, model_server(says) as model:
        for number, body in [(1, "the word is mango"), (2, "what was the word?")]:
            async with claude(tmp_path, core, model.url) as backend:
                assert await backend.run(turn(body, number)) == Ok()
        assert "the word is mango" in str(model.requests[-1]["messages"])
        assert "what was the word?" in last_user_text(model.requests[-1])


async def test_identity_follows_the_configuration(tmp_path: Path) -> None:
    """A conversation that goes on gets the identity that is configured now, not the one it began with."""
    async with core_stand_in(tmp_path / "run") as core, model_server(says) as model:
        for allowed in (["bob"], ["carol"]):
            async with claude(tmp_path, core, model.url, allowed_recipients=allowed) as backend:
                assert await backend.run(turn("hello")) == Ok()
        assert "only to: `carol`" in str(model.requests[-1]["system"])
        assert "only to: `bob`" not in str(model.requests[-1]["system"])


@pytest.mark.parametrize("key", ["wrong", None], ids=["wrong key", "no credentials"])
async def test_login_is_needed(tmp_path: Path, key: str | None) -> None:
    """Refused or missing credentials are told apart from other failures, so that a person can log in."""

    async def refuses(_request: dict[str, Any]) -> ApiError:
        return ApiError(401, "authentication_error", "invalid x-api-key")

    async with (
        core_stand_in(tmp_path / "run") as core,
        model_server(refuses) as model,
        claude(tmp_path, core, model.url, key=key) as backend,
    ):
        outcome = await backend.run(turn("hello"))
    assert isinstance(outcome, NeedsLogin)
    assert re.search("API key|logged in", outcome.detail)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ApiError(529, "overloaded_error", "Overloaded"), "server_error"),
        (ApiError(429, "rate_limit_error", "slow down"), "rate_limit"),
        (ApiError(400, "invalid_request_error", "Credit balance is too low"), "billing_error"),
        (ApiError(400, "invalid_request_error", "prompt is too long: 9 tokens > 1 maximum"), "prompt_too_long"),
    ],
    ids=["529", "429", "credit", "too long"],
)
async def test_api_failures(tmp_path: Path, error: ApiError, kind: str) -> None:
    """A failing API makes the turn fail with its kind and the program's words, never pass for a success."""

    async def fails(_request: dict[str, Any]) -> ApiError:
        return error

    async with (
        core_stand_in(tmp_path / "run") as core,
        model_server(fails) as model,
        claude(tmp_path, core, model.url) as backend,
    ):
        outcome = await backend.run(turn("hello"))
    assert isinstance(outcome, Failed)
    assert outcome.kind == kind
    assert outcome.detail


def descendants() -> list[str]:
    """What still runs below this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            found.append(" ".join(process.cmdline())[:200])
        except psutil.NoSuchProcess:
            continue
    return found


async def test_hanging_turn_is_killed(tmp_path: Path) -> None:
    """A turn beyond its time fails, and nothing that it started goes on: CLI, MCP server, detached commands."""
    command = "setsid sleep 1001 & sleep 1002"
    hang = ToolUse("Bash", {"command": command, "description": "hang", "timeout": 600_000})

    async def brain(_request: dict[str, Any]) -> Blocks:
        return [hang]

    before = descendants()
    async with (
        core_stand_in(tmp_path / "run") as core,
        model_server(brain) as model,
        claude(tmp_path, core, model.url, tools=["Bash"]) as backend,
        CoreClient(core.socket, patience=1.0) as client,
    ):
        leases = keep_leases(client, INSTANCE, lambda: 60.0)
        work = asyncio.create_task(run_turn(backend, turn("hello"), leases, limit=20.0))
        while not any("sleep 1001" in line for line in descendants()):
            await asyncio.sleep(0.05)
            assert not work.done(), "the turn ended before its command ran"
        outcome = await work
    assert isinstance(outcome, Failed)
    assert outcome.kind == "timeout"
    assert [line for line in descendants() if line not in before] == []


async def test_lost_mcp_server_fails_the_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hive's tools no answer could reach anyone, so such a turn fails instead of passing for done."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    async with (
        core_stand_in(tmp_path / "run") as core,
        model_server(says) as model,
        claude(tmp_path, core, model.url) as backend,
    ):
        outcome = await backend.run(turn("hello"))
    assert isinstance(outcome, Failed)
    assert outcome.kind == "no_tools"


async def test_recv_serves_only_its_harness(tmp_path: Path) -> None:
    """What the model fetched is not handed to the harness a second time while its turn runs."""
    recv = ToolUse("mcp__hive__recv", {})
    async with core_stand_in(tmp_path / "run") as core, model_server(once(recv)) as model:
        await core.deliver("fetched")
        async with claude(tmp_path, core, model.url) as backend:
            assert await backend.run(turn("hello", 99)) == Ok()
        async with CoreClient(core.socket, patience=1.0) as client:
            assert (await client.receive(ReceiveRequest(instance=INSTANCE))).deliveries == []
