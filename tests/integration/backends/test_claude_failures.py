"""How turns of the real Claude Code fail, and what the backend makes of it: the rows of the failure table."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hive_agent.backends.base import Backend, Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.claude import process as claude_turn
from hive_agent.backends.transcript import Entry, Notice
from hive_agent.client.core_client import CoreClient
from hive_agent.turns.attempts.runner import keep_leases, run_turn
from tests.helpers.fake_messages_api import ApiError, Blocks, ModelServer, Text, has_tool_result, model_server
from tests.integration.backends.claude_code import (
    INSTANCE,
    bash,
    claude,
    needs_claude,
    of,
    programs,
    running,
    says,
    silent,
    turn,
)
from tests.unit.agent.fake_core_api import fake_core

pytestmark = needs_claude


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[Backend, ModelServer]]:
    """One process for all failures that a process outlives."""
    with tempfile.TemporaryDirectory(prefix="hc") as directory:
        place = Path(directory)
        async with (
            fake_core(place / "run") as core,
            model_server(says) as model,
            claude(place, core, model.url) as backend,
        ):
            yield backend, model


def refuses(error: ApiError) -> Any:
    async def brain(_request: dict[str, Any]) -> ApiError:
        return error

    return brain


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ApiError(529, "overloaded_error", "Overloaded"), "overloaded"),
        (ApiError(500, "api_error", "Internal"), "overloaded"),
        (ApiError(429, "rate_limit_error", "slow down"), "rate_limit"),
        (ApiError(400, "invalid_request_error", "Credit balance is too low"), "billing"),
        (ApiError(402, "billing_error", "pay"), "billing"),
        (ApiError(400, "invalid_request_error", "This organization has been disabled."), "billing"),
        (ApiError(400, "invalid_request_error", "You have reached your specified API usage limits."), "rate_limit"),
        (ApiError(400, "invalid_request_error", "prompt is too long: 9 tokens > 1 maximum"), "too_long"),
        (ApiError(413, "request_too_large", "Request too large"), "too_long"),
        (ApiError(404, "not_found_error", "model: none"), "config"),
        (ApiError(400, "invalid_request_error", "messages: a bad thing"), "refused"),
        (ApiError(401, "authentication_error", "invalid x-api-key"), "needs_login"),
        (ApiError(403, "permission_error", "not allowed"), "needs_login"),
    ],
    ids=lambda value: f"{value.status} {value.message[:20]}" if isinstance(value, ApiError) else None,
)
async def test_api_failures(shared: tuple[Backend, ModelServer], error: ApiError, kind: str) -> None:
    """A failing API makes the turn fail with its kind and the program's words, and the next turn can be well."""
    backend, model = shared
    model.brain = refuses(error)
    outcome = await backend.run(turn("hello"), silent)
    assert not isinstance(outcome, Ok)
    assert ("needs_login" if isinstance(outcome, NeedsLogin) else outcome.kind) == kind
    assert outcome.detail
    assert backend.warm == (kind != "needs_login")
    if kind == "needs_login":  # a process that was ended starts again
        model.brain = says
        assert await backend.run(turn("hello"), silent) == Ok()


@pytest.mark.asyncio(loop_scope="module")
async def test_error_that_passes(shared: tuple[Backend, ModelServer]) -> None:
    """After all these failures the same process handles a turn well."""
    backend, model = shared
    model.brain = says
    assert await backend.run(turn("hello"), silent) == Ok()


async def test_retry_after(tmp_path: Path) -> None:
    """How long the API asks to wait is told, from its header and from the limits of a subscription."""
    answers = [{"retry-after": "2"}, {"retry-after": "2"}]

    async def brain(_request: dict[str, Any]) -> ApiError:
        return ApiError(429, "rate_limit_error", "slow down", answers.pop(0))

    resets = int(time.time()) + 600
    variables = {"CLAUDE_CODE_MAX_RETRIES": "1", "ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "token"}
    entries: list[Entry] = []
    async with (
        fake_core(tmp_path / "run") as core,
        model_server(brain) as model,
        claude(tmp_path, core, model.url, variables=variables) as backend,
    ):
        first = await backend.run(turn("hello"), entries.append)
        limits = {"status": "rejected", "representative-claim": "five_hour", "reset": resets, "5h-reset": resets}
        headers = {f"anthropic-ratelimit-unified-{name}": str(value) for name, value in limits.items()}
        answers.append(headers | {"retry-after": "600"})
        second = await backend.run(turn("hello"), silent)
    assert isinstance(first, Failed)
    assert first.kind == "rate_limit"
    assert first.retry_after is not None
    assert 2 <= first.retry_after < 5
    assert any("429" in notice.text for notice in of(Notice, entries))
    assert isinstance(second, Failed)
    assert second.kind == "rate_limit"
    assert second.retry_after is not None
    assert 500 < second.retry_after <= 600


@pytest.mark.asyncio(loop_scope="module")
async def test_too_long_is_shortened_by_itself(shared: tuple[Backend, ModelServer]) -> None:
    """A conversation that has become too long is shortened in the middle of a turn, which then ends well."""
    backend, model = shared
    model.brain = says
    assert await backend.run(turn("hello"), silent) == Ok()

    async def brain(request: dict[str, Any]) -> Blocks | ApiError:
        said = str(request["messages"])
        if "detailed summary" in said:
            return [Text("<summary>short</summary>")]
        if "<summary>" in said or "Summary:" in said:
            return [Text("done")]
        return ApiError(400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum")

    model.brain = brain
    entries: list[Entry] = []
    assert await backend.run(turn("go on"), entries.append) == Ok()
    assert any("compacted" in notice.text for notice in of(Notice, entries))


async def test_no_answer_at_all(tmp_path: Path) -> None:
    """An API that is not reached counts as overloaded."""
    async with fake_core(tmp_path / "run") as core, claude(tmp_path, core, "http://127.0.0.1:9") as backend:
        outcome = await backend.run(turn("hello"), silent)
    assert isinstance(outcome, Failed)
    assert outcome.kind == "overloaded"


async def test_no_credentials(tmp_path: Path) -> None:
    """Without any credentials a person is asked to log in, and that there are none is known beforehand."""
    async with (
        fake_core(tmp_path / "run") as core,
        model_server(says) as model,
        claude(tmp_path, core, model.url, variables={"ANTHROPIC_API_KEY": ""}) as backend,
    ):
        logged_in, outcome = await asyncio.gather(backend.logged_in(), backend.run(turn("hello"), silent))
    assert not logged_in
    assert isinstance(outcome, NeedsLogin)
    assert re.search("logged in", outcome.detail)


async def test_stopped_turn(tmp_path: Path) -> None:
    """A turn beyond its time is stopped with all that it has started, and the process goes on to the next turn."""
    commands = "setsid sleep 1001 & sleep 1002"
    others = running()

    async def hangs(request: dict[str, Any]) -> Blocks:
        return [Text("done")] if has_tool_result(request) else [bash(commands)]

    async with (
        fake_core(tmp_path / "run") as core,
        model_server(hangs) as model,
        claude(tmp_path, core, model.url, tools=["Bash"]) as backend,
        CoreClient(core.socket, patience=1.0) as client,
    ):
        leases = keep_leases(client, INSTANCE, lambda: 60.0)
        work = asyncio.create_task(run_turn(backend, turn("hello"), silent, leases, limit=600.0))
        while not running(lambda line: "sleep 1001" in line):
            await asyncio.sleep(0.05)
            assert not work.done(), "the turn ended before its command ran"
        before = programs()
        work.cancel()
        outcome = await asyncio.gather(work, return_exceptions=True)
        assert isinstance(outcome[0], asyncio.CancelledError)
        assert running(lambda line: "sleep" in line) == {}
        assert programs() == before
        model.brain = says
        assert await backend.run(turn("hello", attempt=2), silent) == Ok()
        assert programs() == before
        assert "was interrupted" in str(model.requests[-1]["messages"])
    assert running().keys() <= others.keys()


async def test_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that says nothing for too long has hung, and is ended; a tool that takes its time is no silence."""
    asked, others = asyncio.Event(), running()

    async def brain(request: dict[str, Any]) -> Blocks:
        if not has_tool_result(request):
            return [bash("sleep 1.5")]
        asked.set()
        await asyncio.Event().wait()
        return []

    async with (
        fake_core(tmp_path / "run") as core,
        model_server(says) as model,
        claude(tmp_path, core, model.url, tools=["Bash"]) as backend,
    ):
        assert await backend.run(turn("hello"), silent) == Ok()
        monkeypatch.setattr(claude_turn, "_SILENCE_SECONDS", 1.0)
        model.brain = brain
        outcome: TurnOutcome = await backend.run(turn("hello"), silent)
        assert asked.is_set()
        assert isinstance(outcome, Failed)
        assert outcome.kind == "hung"
        assert not backend.warm
        assert running().keys() <= others.keys()


async def test_lost_mcp_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hive's tools no answer could reach anyone, so such a turn fails instead of passing for done."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    async with (
        fake_core(tmp_path / "run") as core,
        model_server(says) as model,
        claude(tmp_path, core, model.url) as backend,
    ):
        outcome = await backend.run(turn("hello"), silent)
    assert isinstance(outcome, Failed)
    assert outcome.kind == "no_tools"


async def test_program_that_breaks_off(tmp_path: Path) -> None:
    """A program that ends without a result is told of with what it said; a missing one with what to do."""
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 3\n")
    broken.chmod(0o755)
    async with fake_core(tmp_path / "run") as core:
        for named, kind, words in [
            (broken, "crashed", "exit code 3.*no such thing"),
            (tmp_path, "no_program", "names"),
        ]:
            async with claude(tmp_path, core, "", variables={"HIVE_CLAUDE": str(named)}) as backend:
                outcome = await backend.run(turn("hello"), silent)
                assert isinstance(outcome, Failed)
                assert outcome.kind == kind
                assert re.search(words, outcome.detail)
