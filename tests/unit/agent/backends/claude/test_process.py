"""How the claude backend keeps its program; a small program that speaks Claude Code's protocol stands in for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hive_agent.backends.base import Failed, Ok, Turn
from hive_agent.backends.claude.backend import ClaudeBackend
from hive_agent.infra.processes import Program
from hive_core.protocol import Delivery
from tests.integration.backends.claude_code import delivery, silent
from tests.unit.agent.backends.one_shot.test_commands import context

PROGRAM = f"""#!{sys.executable}
import json, sys

def say(**event):
    print(json.dumps(event), flush=True)

for line in sys.stdin:
    event = json.loads(line)
    if event["type"] == "user":
        say(type="system", subtype="init", session_id="s1", mcp_servers=[{{"name": "hive", "status": "connected"}}])
        say(type="control_request", request_id="r", request={{"subtype": "hook_callback", "callback_id": "stop"}})
    elif event["type"] == "control_response":
        say(type="result", subtype="success", is_error=False)
"""
"""It asks at the end of each turn what came meanwhile, and ends the turn whatever the answer is."""


@asynccontextmanager
async def claude(
    place: Path, changed: Callable[[], object] = lambda: None, **config: object
) -> AsyncIterator[ClaudeBackend]:
    """The backend of an agent whose Claude Code is the fake."""
    program = place / "claude"
    program.write_text(PROGRAM)
    program.chmod(0o700)
    made = replace(context(place, "claude", dict(config), HIVE_CLAUDE=str(program)), changed=changed)
    backend = ClaudeBackend(made)
    async with made.client:
        try:
            yield backend
        finally:
            await backend.close()


async def nothing() -> Sequence[Delivery]:
    return ()


async def test_messages_that_could_not_be_put_into_the_turn(tmp_path: Path) -> None:
    """A turn is not well if messages were fetched for it and could not be added to the turn: they would be lost."""

    async def long_one() -> Sequence[Delivery]:
        return [delivery("x" * 40_000, number=2)]

    async with claude(tmp_path) as backend:
        assert await backend.run(Turn((delivery("hello"),), more=nothing), silent) == Ok()
        (tmp_path / "state/messages").write_text("in the way of the directory for long bodies")
        outcome = await backend.run(Turn((delivery("hello"),), more=long_one), silent)
        assert isinstance(outcome, Failed)
        assert outcome.kind == "internal"
        assert "could not be added to the turn" in outcome.detail
        assert await backend.run(Turn((delivery("hello"),), more=nothing), silent) == Ok()


async def test_the_end_of_an_idle_program_is_told(tmp_path: Path) -> None:
    """Whoever shows whether a program is kept is told when it ends because nobody wanted it."""
    told = asyncio.Event()
    async with claude(tmp_path, changed=told.set, idle_timeout=0.05) as backend:
        assert await backend.run(Turn((delivery("hello"),)), silent) == Ok()
        async with asyncio.timeout(30):
            await told.wait()
        assert not backend.warm


async def test_a_turn_stopped_while_the_idle_program_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the end of an idle program may be stopped: it ends all the same, and the next turn is well."""
    ending, go_on = asyncio.Event(), asyncio.Event()
    ended: list[int] = []
    end = Program.end

    async def slow_end(self: Program) -> None:
        ending.set()
        await go_on.wait()
        await end(self)
        ended.append(self.process.pid)

    async with claude(tmp_path, idle_timeout=0.05) as backend:
        monkeypatch.setattr(Program, "end", slow_end)
        assert await backend.run(Turn((delivery("hello"),)), silent) == Ok()
        async with asyncio.timeout(30):
            await ending.wait()
        waiting = asyncio.create_task(backend.run(Turn((delivery("hello"),)), silent))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        go_on.set()
        assert await backend.run(Turn((delivery("hello"),)), silent) == Ok()
        assert len(ended) == 1
