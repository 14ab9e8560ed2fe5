"""`./dev demo --claude`: the same work, done by real Claude Code with a loopback model."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_messages_api import (
    ApiError,
    Blocks,
    Text,
    ToolUse,
    has_tool_result,
    last_user_text,
    model_server,
)
from tests.integration.backends.claude_code import needs_claude
from tests.integration.demo.mending_model import mend
from tests.integration.demo.run_demo import assert_job_done, assert_nothing_left, processes, run

CLAUDE_SECONDS = 300
"""Longest that a demo may take with Claude Code, whose program is some 400 MB that every agent has to read."""


@needs_claude
def test_claude_without_access_says_what_to_set(place: Path) -> None:
    """With --claude, but neither key nor login, the demo says what to do and starts nothing."""
    done = run(place, "--claude")
    assert done.returncode == 1
    assert {"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"} <= set(re.findall(r"export (\w+)=", done.stdout))
    assert "Starting" not in done.stdout
    assert_nothing_left(place)


@needs_claude
def test_claude_refuses_a_login_that_runs_out(place: Path) -> None:
    """A login that will not last for the job is refused before anything starts: agents do not renew it."""
    write_login(place, lasts=60)
    done = run(place, "--claude")
    assert done.returncode == 1
    assert "runs out" in done.stdout
    assert "Starting" not in done.stdout


@needs_claude
@pytest.mark.timeout(CLAUDE_SECONDS + 30)
async def test_claude_with_a_refused_key_ends_with_the_reason(place: Path) -> None:
    """A key that the API refuses ends the demo at once: it says who needs a login, and shows that agent's log."""

    async def refuse(_request: dict[str, Any]) -> ApiError:
        return ApiError(401, "authentication_error", "invalid x-api-key")

    async with model_server(refuse) as server:
        done = await run_claude(place, server.url, ANTHROPIC_API_KEY="wrong")
    assert done.returncode == 1
    assert re.search(r"The demo failed: ada does not go on: .* (hive's key|key is the operator's)", done.stdout)
    assert "serving ada (claude)" in done.stdout
    assert_nothing_left(place)


@needs_claude
@pytest.mark.timeout(CLAUDE_SECONDS + 30)
@pytest.mark.parametrize("access", ["key", pytest.param("login", marks=pytest.mark.thorough)])
async def test_claude_does_the_same_work(place: Path, access: str) -> None:
    """Real Claude Code does the work with a key from the environment, or with a login that `claude` has made.

    Only the model is a stand-in. It does what the agents' prompts ask for, from what it is shown alone.
    """
    more = {"ANTHROPIC_API_KEY": "test"} if access == "key" else {}
    if access == "login":
        write_login(place, lasts=3_600)
    async with model_server(model) as server:
        done = await run_claude(place, server.url, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_job_done(done.stdout)
    # The relay has the key, and its calls are in the ledger.
    assert (re.search(r"^  ada +\d+ ", done.stdout, re.MULTILINE) is not None) == (access == "key")
    assert "The seal" not in done.stdout  # the gate's part follows a script, which these agents do not have
    assert "nothing is left" in done.stdout
    assert processes(place) == []


async def run_claude(place: Path, url: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The demo with Claude Code, whose model is at `url`."""
    more |= {"ANTHROPIC_BASE_URL": url, "CLAUDE_CODE_MAX_RETRIES": "0"}
    return await asyncio.to_thread(run, place, "--once", "--claude", limit=CLAUDE_SECONDS, **more)


def write_login(home: Path, *, lasts: float) -> None:
    """The file that `claude auth login` makes."""
    login = {
        "accessToken": "sk-ant-oat01-test",
        "refreshToken": "sk-ant-ort01-test",
        "expiresAt": int((time.time() + lasts) * 1_000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "pro",
    }
    (home / ".claude").mkdir()
    (home / ".claude/.credentials.json").write_text(json.dumps({"claudeAiOauth": login}))


async def model(request: dict[str, Any]) -> Blocks:
    """A model that follows the demo's prompts: one agent mends and submits, the manager reviews."""
    tools = {tool["name"] for tool in request.get("tools", [])}
    if "mcp__hive__send" not in tools:
        return [Text("Done.")]
    if "You review the work" in json.dumps(request["system"]):
        return review(request)
    return mend(request, "prices.py", "sed -i 's/prices\\[1:\\]/prices/' prices.py && python3 -m unittest")


def review(request: dict[str, Any]) -> Blocks:
    """Approve the work that the hive asks for, if its checks have passed."""
    text = last_user_text(request)
    call = re.search(r'approve_work\(repo="(\w+)", number=(\d+), commit="(\w+)", expect="built"', text)
    if has_tool_result(request) or call is None:
        return [Text("Done.")]
    assert "- tests: passed" in text
    decision = {"repo": call[1], "number": int(call[2]), "commit": call[3], "expect": "built", "note": "Well done."}
    return [ToolUse("mcp__hive__approve_work", decision)]
