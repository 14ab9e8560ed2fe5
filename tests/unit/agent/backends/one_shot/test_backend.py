"""What the backends with one process per turn share; a shell script that writes its events stands in for codex."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hive_agent.backends.base import Backend, NeedsLogin, Ok, Turn, open_backend
from hive_agent.backends.transcript import Entry, Notice, SessionStarted
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
