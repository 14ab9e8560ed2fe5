"""What daemon, harness and the real Claude Code together do about an API that refuses: rows of the failure table."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_messages_api import ApiError, Blocks, Text, last_user_text, model_server
from tests.helpers.real_daemon import Daemon, running
from tests.integration.backends.claude_code import needs_claude

pytestmark = [needs_claude, pytest.mark.thorough]

REFUSALS = {
    "busy": (ApiError(529, "overloaded_error", "Overloaded"), "failed", "Overloaded"),
    "limit": (ApiError(429, "rate_limit_error", "slow down"), "failed", "429"),
    "unpaid": (ApiError(400, "invalid_request_error", "Credit balance is too low"), "paused", "Credit balance"),
    "long": (ApiError(400, "invalid_request_error", "prompt is too long: 9 tokens > 1 maximum"), "paused", "too long"),
    "key": (ApiError(401, "authentication_error", "invalid x-api-key"), "needs_login", "API key"),
}
"""By agent: what its API answers, the state that its harness reports then, and what the detail says."""


async def test_each_refusal_has_its_reaction(hive_home: Path) -> None:
    """The state says what is wrong, the message is kept, and a restart with an API that answers handles it."""
    refusing = True

    async def brain(request: dict[str, Any]) -> Blocks | ApiError:
        if not refusing:
            return [Text("done")]
        told = str(request["messages"])
        return next((error for name, (error, _, _) in REFUSALS.items() if f"I am {name}." in told), [Text("?")])

    async with model_server(brain) as model:
        environment = {
            "ANTHROPIC_BASE_URL": model.url,
            "ANTHROPIC_API_KEY": "test",
            "CLAUDE_CODE_MAX_RETRIES": "0",
        }
        daemon = Daemon(hive_home, settings={"pass_environment": ",".join(environment)}, environment=environment)
        async with running(daemon):
            for name in REFUSALS:
                await daemon.ask("POST", "/v1/agents", {"name": name, "config": {"backend": "claude"}})
                await daemon.ask("POST", "/v1/messages", {"to": name, "body": f"I am {name}."})
            async with asyncio.timeout(100):
                for name, (_, state, words) in REFUSALS.items():
                    while (found := await daemon.ask("GET", f"/v1/agents/{name}"))["state"] != state:
                        await asyncio.sleep(0.05)
                    assert words in found["detail"], (name, found["detail"])
                    assert found["unacked"] == 1
                refusing, before = False, len(model.requests)
                await asyncio.gather(*(daemon.ask("POST", f"/v1/agents/{name}/restart", {}) for name in REFUSALS))
                for name in REFUSALS:
                    while (await daemon.ask("GET", f"/v1/agents/{name}"))["unacked"]:
                        await asyncio.sleep(0.05)
        answered = {
            name for name in REFUSALS if f"I am {name}." in "".join(map(last_user_text, model.requests[before:]))
        }
        assert answered == set(REFUSALS)


async def test_a_conversation_that_is_refused_for_good(hive_home: Path) -> None:
    """A new conversation with the notes goes on by itself after the API refused every request with the history.

    The operator is told, and gets the text of the model as the answer, although it sends none with a tool.
    """

    async def brain(request: dict[str, Any]) -> Blocks | ApiError:
        if "a bad thing" in str(request["messages"]) and "how are you?" in str(request["messages"]):
            return ApiError(400, "invalid_request_error", "messages.2: a bad thing")
        if "checks whether this conversation" in str(request["messages"]) and "a bad thing" in str(request["messages"]):
            return ApiError(400, "invalid_request_error", "messages.2: a bad thing")
        return [Text("I am well.")]

    async with model_server(brain) as model:
        environment = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "test", "CLAUDE_CODE_MAX_RETRIES": "0"}
        daemon = Daemon(hive_home, settings={"pass_environment": ",".join(environment)}, environment=environment)
        async with running(daemon):
            await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": {"backend": "claude"}})
            first = await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "here is a bad thing"})
            answer = await daemon.ask("GET", f"/v1/messages/{first['id']}/reply?wait_seconds=60")
            assert answer["reply"]["body"] == "I am well."
            notes = daemon.state_dir / "agents/ada/state/notes.md"
            notes.write_text("the sheep are counted\n")
            second = await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "how are you?"})
            answer = await daemon.ask("GET", f"/v1/messages/{second['id']}/reply?wait_seconds=60")
            assert answer["reply"]["body"] == "I am well."
            told = (await daemon.ask("GET", "/v1/messages?view=all"))["messages"]
        [notice] = [message["body"] for message in told if message["sender"] == "system"]
        assert "a new conversation" in notice and "a bad thing" in notice
        assert "the sheep are counted" in str(model.requests[-1]["messages"])
