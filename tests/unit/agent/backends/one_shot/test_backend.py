"""What the backends with one process per turn share; a shell script that writes its events stands in for codex."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hive_agent.backends.base import Backend, Failed, NeedsLogin, Ok, Turn, open_backend
from hive_agent.backends.one_shot import repeat_limit
from hive_agent.backends.transcript import Entry, Notice, SessionStarted
from hive_core.protocol import Backend as BackendName
from tests.integration.backends.claude_code import delivery, of
from tests.unit.agent.backends.one_shot.test_commands import context

WORKS = """
cat > prompt
case "$*" in *" resume gone "*) echo 'no rollout found for thread id gone' >&2; exit 1;; esac
echo '{"type":"thread.started","thread_id":"kept"}'
echo '{"type":"turn.completed","usage":{"input_tokens":1}}'
"""


@asynccontextmanager
async def codex(place: Path, script: str, session: str | None = None, **variables: str) -> AsyncIterator[Backend]:
    """The backend of an agent whose codex is `script`, run in its state directory."""
    program = place / "codex"
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o700)
    if session is not None:
        (place / "home/codex").mkdir(parents=True)
        (place / "home/codex/session.json").write_text(f'{{"id": "{session}"}}\n')
    made = context(place, "codex", {}, HIVE_CODEX=str(program), **variables)
    async with made.client:
        yield open_backend(made)


async def test_lost_conversation(tmp_path: Path) -> None:
    """If the CLI has lost the conversation the turn is handled in a new one, which is told, and kept from then on."""
    told: list[Entry] = []
    async with codex(tmp_path, WORKS, session="gone") as backend:
        assert await backend.run(Turn((delivery("hello"),)), told.append) == Ok()
        assert await backend.run(Turn((delivery("hello"),)), told.append) == Ok()
    assert [notice.level for notice in of(Notice, told)] == ["warning"]
    assert of(SessionStarted, told) == [SessionStarted("kept", fresh=True), SessionStarted("kept", fresh=False)]


REPEATS = """
cat > /dev/null
echo '{{"type":"thread.started","thread_id":"kept"}}'
echo '{{"type":"error","message":"Reconnecting... 1/5 ({})"}}'
exec sleep 600
"""


@pytest.mark.parametrize(
    ("limit", "why", "kind", "seconds"),
    [
        (300.0, "unexpected status 429: try again in 2 hours", "rate_limit", 7_200.0),
        (0.1, "unexpected status 429: slow down, try again in 0.05 s", "rate_limit", 0.05),
        (0.1, "unexpected status 503: busy", "overloaded", None),
        (0.1, "it went wrong", "rate_limit", None),
    ],
)
async def test_long_pause_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, why: str, kind: str, seconds: float | None
) -> None:
    """A CLI that would wait long before it calls a failing API again is ended: the harness waits, and shows it."""
    monkeypatch.setattr(repeat_limit, "_REPEAT_SECONDS", limit)
    async with codex(tmp_path, REPEATS.format(why), OPENAI_API_KEY="x") as backend, asyncio.timeout(20):
        outcome = await backend.run(Turn((delivery("hello"),)), lambda _entry: None)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.retry_after) == (kind, seconds)
    assert why in outcome.detail


async def test_short_pause_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output after a failed call ends the limit: the turn goes on, however long it takes."""
    monkeypatch.setattr(repeat_limit, "_REPEAT_SECONDS", 0.2)
    script = REPEATS.format("status 503").replace("exec sleep 600", WORKS.replace("cat > prompt", "sleep 0.4"))
    script = script.replace("sleep 0.4", """echo '{"type":"turn.started"}'; sleep 0.4""")
    async with codex(tmp_path, script, OPENAI_API_KEY="x") as backend, asyncio.timeout(20):
        assert await backend.run(Turn((delivery("hello"),)), lambda _entry: None) == Ok()


async def test_shortened_conversation_gets_the_notes(tmp_path: Path) -> None:
    """After a compaction the new conversation begins with the agent's notes; after `new session` without."""
    state, turn = tmp_path / "state", Turn((delivery("hello"),))
    async with codex(tmp_path, WORKS, session="full") as backend:
        (state / "notes.md").write_text("Bob wants sheep.\n")
        assert await backend.compact(lambda _entry: None) == Ok()
        assert await backend.run(turn, lambda _entry: None) == Ok()
        assert "Bob wants sheep." in (state / "prompt").read_text()
        await backend.new_session()
        assert await backend.run(turn, lambda _entry: None) == Ok()
        assert "Bob wants sheep." not in (state / "prompt").read_text()


async def test_no_credentials(tmp_path: Path) -> None:
    """Without credentials the CLI's failure is a missing login; with them it is what it says."""
    script = """echo '{"type":"turn.failed","error":{"message":"Missing environment variable: `CODEX_API_KEY`."}}'"""
    async with codex(tmp_path, script) as backend:
        assert not await backend.logged_in()
        outcome = await backend.run(Turn((delivery("hello"),)), lambda _entry: None)
    assert outcome == NeedsLogin("Missing environment variable: `CODEX_API_KEY`.")
    async with codex(tmp_path, script, OPENAI_API_KEY="key") as backend:
        assert await backend.logged_in()
        assert not isinstance(await backend.run(Turn((delivery("hello"),)), lambda _entry: None), NeedsLogin)


@pytest.mark.parametrize(
    ("backend", "settings", "key"),
    [
        ("codex", {}, "OPENAI_API_KEY"),
        ("gemini", {}, "GEMINI_API_KEY"),
        ("opencode", {"model": "claude-x"}, "ANTHROPIC_API_KEY"),
        ("opencode", {"model": "openrouter/x"}, "OPENROUTER_API_KEY"),
    ],
)
async def test_what_is_missing_is_known_without_a_turn(
    tmp_path: Path, backend: BackendName, settings: dict[str, Any], key: str
) -> None:
    """The program and the key of the model, each with what to do; with both there is no problem that is known."""
    made = context(tmp_path, backend, settings)
    async with made.client:
        problem = await open_backend(made).find_problem()
    assert isinstance(problem, NeedsLogin)
    assert problem.detail.startswith(f"{backend} has no key and no login: set ")
    assert "pass_environment" in problem.detail
    made = context(tmp_path, backend, settings, **{key: "k"})
    async with made.client:
        assert await open_backend(made).find_problem() is None
    missing = {f"HIVE_{backend.upper()}": "", "PATH": str(tmp_path / "nothing")}
    made = context(tmp_path, backend, settings, **{key: "k"}, **missing)
    async with made.client:
        problem = await open_backend(made).find_problem()
    assert isinstance(problem, Failed) and problem.kind == "no_program"
    assert problem.detail.startswith(f"the program {backend} is not installed")


async def test_opencode_needs_no_key_for_its_own_models(tmp_path: Path) -> None:
    """Nothing is claimed of a model whose provider may want no key."""
    for model in (None, "opencode/big-pickle", "ollama/x"):
        made = context(tmp_path, "opencode", {} if model is None else {"model": model})
        async with made.client:
            assert await open_backend(made).find_problem() is None


async def test_a_tool_that_the_cli_cannot_restrict_is_a_problem(tmp_path: Path) -> None:
    """A setting that fails every turn is told before the first one."""
    made = context(tmp_path, "codex", {"tools": ["Bash(git *)"]}, OPENAI_API_KEY="k")
    async with made.client:
        problem = await open_backend(made).find_problem()
    assert isinstance(problem, Failed) and problem.kind == "config"
