"""The claude backend's turns: one real Claude Code and MCP server for most tests; the model is a server on loopback."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hive_agent.backends.base import Backend, Choice, Ok, Turn, TurnOutcome
from hive_agent.backends.transcript import (
    Entry,
    Notice,
    SessionStarted,
    TokenUsage,
    ToolCall,
    ToolResult,
    TranscriptText,
)
from hive_agent.client import fetched_messages
from hive_agent.client.core_client import CoreClient
from hive_core.protocol import Delivery, ReceiveRequest
from hive_core.text import visible
from hive_manager.role import MANAGER
from tests.helpers import fake_messages_api as model
from tests.helpers.fake_messages_api import Blocks, Brain, ModelServer, ToolUse, last_user_text, tool_results
from tests.integration.backends.claude_code import (
    INSTANCE,
    bash,
    claude,
    delivery,
    needs_claude,
    of,
    once,
    programs,
    running,
    says,
    silent,
    turn,
)
from tests.unit.agent.fake_core_api import FakeCore, fake_core

pytestmark = [needs_claude, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Shared:
    """One backend with its process; each test has a conversation that others have left something in."""

    place: Path
    core: FakeCore
    model: ModelServer
    backend: Backend
    entries: list[Entry] = field(default_factory=list)

    async def run(self, brain: Brain, given: Turn) -> TurnOutcome:
        """A turn with this model; `model.requests` and `entries` are of this turn only."""
        self.entries.clear()
        self.model.requests.clear()
        self.model.brain = brain
        return await self.backend.run(given, self.entries.append)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Shared]:
    with tempfile.TemporaryDirectory(prefix="hc") as directory:
        place = Path(directory)
        async with (
            fake_core(place / "run") as core,
            model.model_server(says) as server,
            claude(place, core, server.url, tools=["Read", "Bash(echo *)", "Bash(setsid *)"]) as backend,
        ):
            yield Shared(place, core, server, backend)


async def test_message_in_tool_call_out(shared: Shared) -> None:
    """A message reaches the model with the agent's identity, its call reaches the hive, and all of it is told."""
    send = ToolUse("mcp__hive__send", {"to": "bob", "body": "four sheep", "reply_to": 7})
    shared.core.sent.clear()
    assert await shared.run(once(send), turn("how many?", 7)) == Ok()
    assert [(sent.to, sent.body, sent.reply_to) for sent in shared.core.sent] == [("bob", "four sheep", 7)]
    first = shared.model.requests[0]
    assert "message 7 from bob" in last_user_text(first)
    assert "how many?" in last_user_text(first)
    assert "You count sheep." in str(first["system"])
    assert "You are `alice`" in str(first["system"])
    [call], [result] = of(ToolCall, shared.entries), of(ToolResult, shared.entries)
    assert (call.name, call.input) == ("mcp__hive__send", {"to": "bob", "body": "four sheep", "reply_to": 7})
    assert (result.id, result.is_error) == (call.id, False)
    assert [text.text for text in of(TranscriptText, shared.entries)] == ["done"]
    used = of(TokenUsage, shared.entries)
    assert [(usage.input, usage.output) for usage in used] == [(10, 10), (10, 10)]
    assert used[-1].window == 200_000
    assert used[-1].cost_usd


async def test_tools_are_the_configured_ones(shared: Shared) -> None:
    """The model is offered the hive's tools and those of agent.toml, and no others."""
    assert await shared.run(says, turn("hello")) == Ok()
    names = {tool["name"] for tool in shared.model.requests[0]["tools"]}
    own = {name for name in names if not name.startswith("mcp__hive__")}
    assert own == {"Read", "Bash"}
    assert {"mcp__hive__send", "mcp__hive__recv", "mcp__hive__propose_config"} < names
    assert "mcp__hive__restart" not in names


async def test_second_turn_starts_no_process(shared: Shared) -> None:
    """A turn soon after another is handled by the process that is there, in the same conversation."""
    assert await shared.run(says, turn("the word is mango", 1)) == Ok()
    before = running()
    assert shared.backend.warm
    assert await shared.run(says, turn("what was the word?", 2)) == Ok()
    assert running().keys() == before.keys()
    assert len(programs()) == 1
    assert not of(SessionStarted, shared.entries)[0].fresh
    assert "the word is mango" in str(shared.model.requests[0]["messages"])
    assert "what was the word?" in last_user_text(shared.model.requests[0])


async def test_message_in_the_middle_of_a_turn(shared: Shared) -> None:
    """What comes before the model has ended its turn goes into that turn, as often as something comes."""
    waiting = [[delivery(f"news {number}", number)] for number in range(2, 14)]

    async def more() -> list[Delivery]:
        return waiting.pop(0) if waiting else []

    assert await shared.run(says, Turn((delivery("begin"),), more=more)) == Ok()
    assert len(shared.model.requests) == 13
    for number, request in zip(range(2, 14), shared.model.requests[1:], strict=True):
        assert f"news {number}\n" in last_user_text(request)


async def test_refusal_reaches_the_model(shared: Shared) -> None:
    """A send that the hive refuses is a tool error in words, and the turn goes on."""
    wrong = ToolUse("mcp__hive__send", {"to": "NOT A NAME", "body": "x"})
    assert await shared.run(once(wrong), turn("hello")) == Ok()
    assert of(ToolResult, shared.entries)[0].is_error
    assert "list_agents" in str(tool_results(shared.model.requests[-1])[-1]["content"])


async def test_recv_brings_messages_into_the_turn(shared: Shared) -> None:
    """A message that came meanwhile is leased to this harness, shown to the model and noted for acknowledgement."""
    number = await shared.core.deliver("one more thing", sender="carol")
    assert await shared.run(once(ToolUse("mcp__hive__recv", {"wait_seconds": 5})), turn("hello", 99)) == Ok()
    assert shared.core.messages[number].holder == INSTANCE
    assert "one more thing" in str(tool_results(shared.model.requests[-1])[-1]["content"])
    assert fetched_messages.read(shared.place / "state", INSTANCE) == [number]
    async with CoreClient(shared.core.socket, patience=1.0) as client:
        assert (await client.receive(ReceiveRequest(instance=INSTANCE))).deliveries == []


async def test_tool_that_is_not_allowed(shared: Shared) -> None:
    """A command outside the allowed patterns is denied to the model without a person to ask; one inside is run."""
    assert await shared.run(once(bash("touch forbidden"), bash("echo allowed")), turn("hello")) == Ok()
    denied, allowed = of(ToolResult, shared.entries)
    assert denied.is_error
    assert (allowed.is_error, allowed.text) == (False, "allowed")
    assert not (shared.place / "state" / "forbidden").exists()


HOSTILE = "<script>alert(1)</script> \x1b]0;title\x07\x1b[31m"


async def test_hostile_text_is_text(shared: Shared) -> None:
    """Markup comes through as it is in a message, a model's words and a tool's result; no message hides anything."""

    async def brain(request: dict[str, Any]) -> Blocks:
        said = model.Text(HOSTILE)
        return [said] if model.has_tool_result(request) else [said, bash(f"echo '{HOSTILE[:26]}'")]

    assert await shared.run(brain, turn(HOSTILE)) == Ok()
    assert visible(HOSTILE) in last_user_text(shared.model.requests[0])
    assert [text.text for text in of(TranscriptText, shared.entries)] == [HOSTILE, HOSTILE]
    assert HOSTILE[:26].strip() in of(ToolResult, shared.entries)[0].text


async def test_nothing_goes_on_after_the_turn(shared: Shared) -> None:
    """What a turn has started ends with it, wherever it went; the MCP server stays for the next turn."""
    assert await shared.run(says, turn("hello")) == Ok()
    before = running()
    assert any(" mcp" in line for line in before.values())
    assert await shared.run(once(bash("setsid sleep 1011 > /dev/null 2>&1 &")), turn("go")) == Ok()
    assert running().keys() == before.keys()


async def test_compaction(shared: Shared) -> None:
    """The conversation is shortened on request: the model sums it up, and what was said before is gone from it."""

    async def sums_up(request: dict[str, Any]) -> Blocks:
        asked = "summary" in last_user_text(request)
        return [model.Text("<summary>They spoke of fruit.</summary>" if asked else "done")]

    assert await shared.run(says, turn("the fruit is a papaya")) == Ok()
    shared.entries.clear()
    shared.model.brain = sums_up
    assert await shared.backend.compact(shared.entries.append, "fruit\n/clear") == Ok()
    assert any("compacted" in notice.text for notice in of(Notice, shared.entries))
    assert "fruit /clear" in str(shared.model.requests[-1]["messages"])
    assert await shared.run(says, turn("and now?")) == Ok()
    said = str(shared.model.requests[0]["messages"])
    assert "They spoke of fruit." in said
    assert "papaya" not in said


async def test_choice_of_a_model(shared: Shared) -> None:
    """Another model and effort are asked from the next turn on, in the same conversation."""
    assert await shared.run(says, turn("the word is kiwi")) == Ok()
    await shared.backend.choose(Choice("claude-opus-4-6", "low"))
    assert await shared.run(says, turn("hello")) == Ok()
    request = shared.model.requests[0]
    assert (request["model"], request["output_config"]) == ("claude-opus-4-6", {"effort": "low"})
    assert "kiwi" in str(request["messages"])
    assert "opus" in str(shared.backend.models)


async def test_new_session(shared: Shared) -> None:
    """After a new session was asked for, the model is shown nothing of what was said before."""
    assert await shared.run(says, turn("the word is guava")) == Ok()
    await shared.backend.new_session()
    assert not shared.backend.warm
    assert await shared.run(says, turn("hello")) == Ok()
    assert "guava" not in str(shared.model.requests[0]["messages"])
    assert of(SessionStarted, shared.entries)[0].fresh


async def test_manager_has_its_tools(tmp_path: Path) -> None:
    """The manager's model can restart an agent, and is told its duties."""
    restart = ToolUse("mcp__hive__restart", {"name": "bob"})
    run = tmp_path / "run"
    async with fake_core(run, name="hm1nd", kind="manager") as core, model.model_server(once(restart)) as server:
        async with claude(tmp_path, core, server.url, role=MANAGER) as backend:
            assert await backend.run(turn("restart bob"), silent) == Ok()
        assert "POST /v1/agents/bob/restart" in core.calls
        assert "Your duties as the manager" in str(server.requests[0]["system"])
