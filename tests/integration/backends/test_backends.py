"""The contract of a backend, kept with every real agent CLI; the models are servers on loopback.

What Claude Code does beyond it is in test_claude_backend.py and its like.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from hive_agent.backends.base import Backend, Failed, NeedsLogin, Ok, Turn
from hive_agent.backends.transcript import (
    Entry,
    Notice,
    SessionStarted,
    TokenUsage,
    ToolCall,
    ToolResult,
    TranscriptText,
)
from hive_agent.turns.attempts.tool_calls import LostCalls
from hive_core.protocol import Delivery, ErrorBody, Peer, PeerList, SendRequest
from tests.helpers.fake_messages_api import ApiError, ToolUse
from tests.helpers.fake_messages_api import Text as Says
from tests.integration.backends.agent_clis import CLAUDE, CODEX, GEMINI, OPENCODE, AgentCli, Answers, each, opened
from tests.integration.backends.claude_code import delivery, of, running
from tests.unit.agent.fake_core_api import fake_core

pytestmark = pytest.mark.timeout(300)

REFUSED = ApiError(401, "authentication_error", "invalid x-api-key")


def turn(body: str, attempt: int = 1, *later: str) -> Turn:
    """Turn 7, which bob's message 7 begins; `later` come while it runs."""
    waiting = list(later)

    async def more() -> Sequence[Delivery]:
        return [delivery(waiting.pop(0), 8)] if waiting else ()

    return Turn((delivery(body, 7),), 7, attempt, more)


async def cancelled_at_work(backend: Backend, sleeping: str, told: list[Entry]) -> None:
    """Run turn 7 until the command `sleeping` runs, and cancel it."""
    work = asyncio.create_task(backend.run(turn("how many?"), told.append))
    while not running(lambda line: line == sleeping):
        assert not work.done(), f"the turn ended before its command ran: {work.result()}"
        await asyncio.sleep(0.05)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def peer(number: int) -> Peer:
    """One of many agents, whose list is as long as a result of a tool may be."""
    return Peer(name=f"a{number}", kind="agent", lifecycle="running", state="idle", status='"busy" ' * 20)


def kill_servers(_sent: SendRequest) -> tuple[int, ErrorBody]:
    """Kill the hive's MCP server while its call is under way: a CLI would start one anew that died before."""
    for pid in running(lambda line: "-m hive_agent mcp" in line):
        os.kill(pid, signal.SIGKILL)
    return 503, ErrorBody(code="unavailable", message="nobody hears this", hint="")


@pytest.mark.parametrize("cli", each(OPENCODE, CODEX, GEMINI, CLAUDE))
async def test_a_turn_of_two_attempts(tmp_path: Path, cli: AgentCli) -> None:
    """A turn calls the hive's tool and is told; cancelled, nothing of it is left, and the next attempt goes on with it.

    What comes while it runs is handled in the same turn and conversation, and credentials that are refused then are
    told apart from other failures. The longest result of the hive's tools reaches the model whole. A call that did not
    reach the hive is known as lost.
    """
    send = ToolUse(cli.send, {"to": "bob", "body": "four sheep", "reply_to": 7})
    many = ToolUse(cli.send.replace("send", "list_agents"), {})
    model = Answers([Says("I count."), send, many], [cli.shell("setsid sleep 1001 & sleep 1002")])
    before, told = set(running()), list[Entry]()
    async with fake_core(tmp_path / "run") as core, cli.serve(model) as api:
        core.raw["GET /v1/agents"] = PeerList(agents=[peer(number) for number in range(400)]).model_dump_json()
        async with opened(cli, tmp_path, core, api.url, tools=["Bash"]) as backend:
            await cancelled_at_work(backend, "sleep 1002", told)
            assert not running(lambda line: line.startswith("sleep 100"))
        assert set(running()) <= before
        assert [(sent.to, sent.body, sent.reply_to) for sent in core.sent] == [("bob", "four sheep", 7)]
        assert "You count sheep." in str(api.requests[0])
        assert "message 7 from bob" in str(api.requests[0])
        assert "I count." in [entry.text for entry in of(TranscriptText, told)]
        [call] = [call for call in of(ToolCall, told) if call.name.endswith("send")]
        assert (call.input["to"], call.input["reply_to"]) == ("bob", 7)
        [result] = [result for result in of(ToolResult, told) if result.id == call.id]
        assert "Sent to bob" in result.text and not result.is_error
        [session] = of(SessionStarted, told)
        assert session.fresh
        reached = str(api.requests[1])
        [shown] = re.findall(r"\[(\d+) of 400 are shown; ", reached)
        assert re.findall(r"(a\d+) \(agent\)", reached) == [f"a{number}" for number in range(int(shown))]

        core.refuse_send = kill_servers
        lost_send = ToolUse(cli.send, {"to": "bob", "body": "five sheep"})
        model.add([lost_send], [Says("Four, as I said.")], *[REFUSED] * 3)
        asked, heard = len(api.requests), list[Entry]()
        # Gemini CLI takes long to start, and what follows the first answer is no matter of the CLI but of ours.
        later = () if cli is GEMINI else ("and goats?",)
        async with opened(cli, tmp_path, core, api.url, tools=["Bash"]) as backend:
            outcome = await backend.run(turn("how many?", 2, *later), heard.append)
        lost = LostCalls()
        for entry in heard:
            lost.record(entry)
        assert lost.reason.startswith("the hive's tools did not answer (send): ")
        resumed = str(api.requests[asked])
        assert "four sheep" in resumed and "I count." in resumed and "was interrupted" in resumed
        assert {(entry.id, entry.fresh) for entry in of(SessionStarted, heard)} == {(session.id, False)}
        assert [usage for usage in of(TokenUsage, heard) if usage.input > 0 and usage.output > 0]
        assert len(core.sent) == 1
        if not later:
            assert outcome == Ok()
            return
        assert isinstance(outcome, NeedsLogin), outcome
        assert "invalid x-api-key" in outcome.detail or "API key" in outcome.detail
        assert "Four, as I said." in str(api.requests[asked + 2]) and "and goats?" in str(api.requests[asked + 2])


@pytest.mark.parametrize("cli", each(CODEX, CLAUDE))
async def test_repeated_call(tmp_path: Path, cli: AgentCli) -> None:
    """A refused call that the CLI repeats by itself is told at once; the turn goes on with the next answer.

    opencode and gemini wait for seconds between their calls: what they write is in test_readers.py.
    """
    model, told = Answers(REFUSED, [Says("I am back.")]), list[Entry]()
    async with (
        fake_core(tmp_path / "run") as core,
        cli.serve(model) as api,
        opened(cli, tmp_path, core, api.url, more=[("CLAUDE_CODE_MAX_RETRIES", "1")]) as backend,
    ):
        assert await backend.run(turn("hello"), told.append) == Ok()
    [notice] = [notice for notice in of(Notice, told) if notice.repeat]
    assert notice.repeat == 1
    assert "the model's API failed" in notice.text and "401" in notice.text
    [answer] = of(TranscriptText, told)
    assert told.index(notice) < told.index(answer)


@pytest.mark.parametrize("cli", each(CODEX))
async def test_killed_program(tmp_path: Path, cli: AgentCli) -> None:
    """A CLI that is killed in the middle of a turn is a crash, told with how it ended."""
    model, before = Answers(), set(running())
    async with (
        fake_core(tmp_path / "run") as core,
        cli.serve(model) as api,
        opened(cli, tmp_path, core, api.url) as backend,
    ):
        work = asyncio.create_task(backend.run(turn("hello"), lambda _entry: None))
        await model.thinks.wait()
        for pid in set(running()) - before:
            os.kill(pid, signal.SIGKILL)
        outcome = await work
    assert isinstance(outcome, Failed)
    assert outcome.kind == "crashed"
    assert "signal 9" in outcome.detail


@pytest.mark.parametrize("cli", [OPENCODE, CODEX, GEMINI, CLAUDE], ids=lambda cli: cli.name)
async def test_missing_program(tmp_path: Path, cli: AgentCli) -> None:
    """Without its program a backend fails the turn with where it was looked for."""
    setting = f"HIVE_{cli.name.upper()}"
    async with (
        fake_core(tmp_path / "run") as core,
        opened(cli, tmp_path, core, "http://127.0.0.1:9", more=[(setting, "/nowhere/cli")]) as backend,
    ):
        outcome = await backend.run(turn("hello"), lambda _entry: None)
    assert outcome == Failed("no_program", f"{setting} names /nowhere/cli, which is not an executable file")
