"""The client of core.sock."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_core.protocol import LogsQuery, SendRequest
from tests.unit.agent.fake_core_api import FakeCore, refusal


async def test_refusal_keeps_code_message_and_hint(core: FakeCore, client: CoreClient) -> None:
    """What the hive refuses is raised with all that it said."""
    core.refusals["GET /v1/whoami"] = refusal(403, "manager_only", "not for you", "ask hm1nd")
    with pytest.raises(CoreError) as caught:
        await client.whoami()
    error = caught.value
    assert (error.code, error.message, error.hint, error.status) == ("manager_only", "not for you", "ask hm1nd", 403)
    assert error.refusal
    assert not error.passing


async def test_waits_for_a_daemon_that_restarts(core: FakeCore, client: CoreClient) -> None:
    """A call made while the daemon is away is carried out when it is back."""
    await core.stop()
    call = asyncio.create_task(client.send(SendRequest(to="bob", body="x", idempotency_key="k")))
    await asyncio.sleep(0)
    await core.start()
    answer = await call
    assert answer.recipients == ["bob"]
    assert len(core.sent) == 1


async def test_waits_for_a_daemon_that_is_stopping(core: FakeCore, client: CoreClient) -> None:
    """`stopping` is no refusal: the call is repeated until the next daemon takes it."""
    core.refusals["GET /v1/whoami"] = refusal(503, "stopping", "going down")
    call = asyncio.create_task(client.whoami())
    await core.until(lambda: core.calls.count("GET /v1/whoami") >= 2)
    core.refusals.clear()
    assert (await call).name == "alice"


@pytest.mark.parametrize(
    ("status", "code"),
    [(507, "disk_full"), (503, "storage_failed"), (503, "database_busy"), (429, "too_many_polls")],
)
async def test_waits_while_the_daemon_cannot(core: FakeCore, client: CoreClient, status: int, code: str) -> None:
    """What the daemon refuses for its own trouble is asked for again, and is no refusal of the call."""
    core.refusals["GET /v1/whoami"] = refusal(status, code, "not now")
    call = asyncio.create_task(client.whoami())
    await core.until(lambda: core.calls.count("GET /v1/whoami") >= 2 or call.done())
    core.refusals.clear()
    assert (await call).name == "alice"
    assert not CoreError(code, "not now", status=status).refusal


async def test_full_inbox_is_a_refusal(core: FakeCore, client: CoreClient) -> None:
    """A recipient's full inbox is told at once: waiting for its reader could take for ever."""
    core.refusals["POST /v1/messages"] = refusal(429, "inbox_full", "bob has enough to read")
    with pytest.raises(CoreError) as caught:
        await client.send(SendRequest(to="bob", body="x"))
    assert caught.value.refusal
    assert core.calls == ["POST /v1/messages"]


async def test_patience_ends(tmp_path: Path) -> None:
    """Without patience a missing daemon is told at once, with the socket's path."""
    async with CoreClient(tmp_path / "core.sock", patience=0.0) as client:
        started = time.monotonic()
        with pytest.raises(CoreError) as caught:
            await client.whoami()
    assert time.monotonic() - started < 5
    assert caught.value.code == "unreachable"
    assert str(tmp_path / "core.sock") in caught.value.message


async def test_lost_answer_is_asked_for_again(core: FakeCore, client: CoreClient) -> None:
    """A daemon that goes away in the middle of a request gets it again when it is back."""
    waiting = asyncio.create_task(client.agent_logs("bob", LogsQuery()))
    await core.until(lambda: core.calls)
    await core.stop()
    await core.start()
    assert len((await waiting).lines) == 1_000


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "x" * 10, "ü", "bob\n"])
async def test_bad_names_never_reach_a_path(core: FakeCore, client: CoreClient, name: str) -> None:
    """A name that would change the route is refused before anything is sent."""
    with pytest.raises(CoreError) as caught:
        await client.change_agent(name, "restart")
    assert caught.value.code == "bad_name"
    assert core.calls == []


async def test_answer_that_is_not_understood(core: FakeCore, client: CoreClient) -> None:
    """An answer of another shape is an error that names the place and does not quote the content."""
    core.raw["GET /v1/whoami"] = '{"name": "alice", "kind": "robot", "allowed_recipients": null, "deployment": 1}'
    with pytest.raises(CoreError) as caught:
        await client.whoami()
    assert caught.value.code == "bad_answer"
    assert "kind" in caught.value.message
    assert "robot" not in caught.value.message


async def test_long_answers_and_bodies_pass(core: FakeCore, client: CoreClient) -> None:
    """A body of the largest size goes through, also one that JSON writes six times as long."""
    body = "\x01" * (256 * 1024)
    await client.send(SendRequest(to="bob", body=body))
    assert core.sent[0].body == body
