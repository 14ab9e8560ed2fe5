"""The real agent CLIs through the relay, to vendors that take only the hive's key."""

from __future__ import annotations

import json
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hive_agent.backends.base import Failed, Ok, Turn
from hive_agent.backends.transcript import Entry, TranscriptText
from hive_core.protocol.models.budgets import BudgetRefusal
from hive_core.protocol.models.link import RelayAnswer, RelayReserve
from hive_core.protocol.models.vendors import VendorApi
from hive_core.services.relay.apis.errors import budget_message
from hive_core.services.relay.apis.headers import presented_keys
from tests.helpers.fake_messages_api import Text as Says
from tests.helpers.fake_messages_api import ToolUse
from tests.integration.backends.agent_clis import CLAUDE, CODEX, GEMINI, OPENCODE, AgentCli, Answers, each, opened
from tests.integration.backends.claude_code import delivery, of
from tests.unit.agent.fake_core_api import fake_core
from tests.unit.core.services.relay.fake_vendor import Received
from tests.unit.core.services.relay.relay_hive import KEY, relay_hive

pytestmark = [pytest.mark.timeout(300), pytest.mark.thorough]

APIS: dict[str, VendorApi] = {"claude": "anthropic", "opencode": "anthropic", "codex": "openai", "gemini": "google"}
PLACEHOLDER = "hive-placeholder-0123"


def turn() -> Turn:
    async def no_more() -> tuple[()]:
        return ()

    return Turn((delivery("how many?", 7),), 7, 1, no_more)


@pytest.mark.parametrize("cli", each(CLAUDE, OPENCODE, CODEX, GEMINI))
async def test_a_turn_with_tools(tmp_path: Path, cli: AgentCli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each CLI does a turn with a tool of the hive's and one of its own; every call is reserved and settled.

    The vendor refuses any key but the real one, and the real one is in no file of the agent and in no answer.
    """
    send = ToolUse(cli.send, {"to": "bob", "body": "four sheep", "reply_to": 7})
    model = Answers([send], [cli.shell("echo three goats")], [Says("All counted.")])
    refused: list[str] = []
    async with fake_core(tmp_path / "run") as core, cli.serve(model) as api, aiohttp.ClientSession() as session:

        async def respond(request: web.Request, received: Received) -> web.StreamResponse:
            if set(presented_keys(received.headers)) - {""} != {KEY}:
                return web.json_response({"error": {"message": "wrong key"}}, status=401)
            url = api.url.removesuffix("/v1") + str(request.rel_url)
            async with session.request(request.method, url, data=received.body, headers=_kept(received)) as answer:
                response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response

        async with relay_hive(respond, api=APIS[cli.name], placeholder=PLACEHOLDER) as hive:
            monkeypatch.setattr(hive.gateway.metrics, "refused", refused.append)
            url = hive.url("/v1" if cli is CODEX else "")
            told = list[Entry]()
            async with opened(cli, tmp_path, core, url, more=[(cli.key, PLACEHOLDER)], tools=["Bash"]) as backend:
                assert await backend.run(turn(), told.append) == Ok(), (refused, told[-3:])
            await hive.daemon.until(lambda: len(hive.daemon.settled) == len(hive.daemon.reserved))
            calls = hive.daemon.settled
        assert [(sent.to, sent.body) for sent in core.sent] == [("bob", "four sheep")]
        assert "All counted." in [entry.text for entry in of(TranscriptText, told)]
        assert "three goats" in json.dumps(api.requests[-1])
        assert len(calls) >= 3
        assert {(call.outcome, call.complete) for call in calls} == {("done", True)}
        assert all(call.tokens is not None and call.tokens.output > 0 for call in calls)
        assert refused == []
    assert files_with(tmp_path, KEY) == []


@pytest.mark.parametrize("cli", each(CLAUDE, OPENCODE, CODEX, GEMINI))
async def test_a_budget_refuses(tmp_path: Path, cli: AgentCli) -> None:
    """A refusal by a budget reaches the harness through each CLI as what it is, with its text and its end."""
    until = int(time.time()) + 3_600
    refusal = BudgetRefusal(
        whose="ada", measure="money", period="day", limit=5, spent=4.9, reserved=0, reserve=0.2, until=until
    )

    async def decide(request: RelayReserve) -> RelayAnswer:
        return RelayAnswer(id=request.id, refusal=refusal)

    async with fake_core(tmp_path / "run") as core, relay_hive(api=APIS[cli.name], placeholder=PLACEHOLDER) as hive:
        hive.daemon.decide = decide
        url = hive.url("/v1" if cli is CODEX else "")
        async with opened(cli, tmp_path, core, url, more=[(cli.key, PLACEHOLDER)], tools=["Bash"]) as backend:
            outcome = await backend.run(turn(), lambda _: None)
        assert hive.vendor.requests == []
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.detail) == ("budget", budget_message("ada", refusal))
    assert outcome.retry_after is not None


def files_with(directory: Path, text: str) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def _kept(received: Received) -> dict[str, str]:
    return {"Content-Type": received.headers["content-type"]} if received.body else {}
