"""Requests that wait: woken, timed out, broken off, and ended by the daemon's stop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import encode, parse, request

INSTANCE = "instance-1"
LONG = 60.0
PROMPT = 10.0
"""Seconds that a loaded machine may take for what takes none; far below LONG."""


async def hello(hive: Daemon, agent: str) -> None:
    """A harness that is this test speaks for the agent."""
    await hive.ask("POST", "/v1/harness/hello", {"instance": INSTANCE, "version": "1"}, agent=agent)


def receive(hive: Daemon, agent: str, wait: float, **more: object) -> asyncio.Task[dict[str, Any]]:
    """A receive under way."""
    body = {"instance": INSTANCE, "wait_seconds": wait, **more}
    return asyncio.create_task(hive.ask("POST", "/v1/messages/receive", body, agent=agent))


async def answered(hive: Daemon, count: int = 3) -> None:
    """Requests sent before this have reached the daemon: later ones have been answered."""
    for _ in range(count):
        await hive.ask("GET", "/v1/status")


async def test_woken_by_a_message(hive: Daemon) -> None:
    """A waiting harness gets a message as soon as it is stored, and nobody else does."""
    for name in ("ann", "bob"):
        await hello(hive, name)
    others, waiting = receive(hive, "bob", LONG), receive(hive, "ann", LONG)
    await answered(hive)
    assert not waiting.done()
    await hive.ask("POST", "/v1/messages", {"to": "ann", "body": "wake up"})
    answer = await asyncio.wait_for(waiting, PROMPT)
    assert [(message["body"], message["attempt"]) for message in answer["deliveries"]] == [("wake up", 1)]
    assert not others.done()
    others.cancel()


async def test_wait_is_respected(hive: Daemon) -> None:
    """An empty long poll answers when its time is up, not before; without one it answers at once."""
    await hello(hive, "ann")
    sent = (await hive.ask("POST", "/v1/messages", {"to": "ann", "body": "x"}))["id"]
    assert len((await receive(hive, "ann", 0))["deliveries"]) == 1
    for path, agent, body in (
        ("/v1/messages/receive", "ann", {"instance": INSTANCE, "wait_seconds": 0.5}),
        (f"/v1/messages/{sent}/reply?wait_seconds=0.5", None, None),
        ("/v1/agents/ann/logs?lines=1&cursor=0-0&wait_seconds=0.5", "hm1nd", None),
    ):
        started = time.monotonic()
        await asyncio.wait_for(hive.ask("POST" if body else "GET", path, body, agent=agent), PROMPT)
        assert time.monotonic() - started >= 0.5, path


async def test_hang_up_while_waiting(hive: Daemon) -> None:
    """A message is not lost to a long poll whose caller has gone: the next one gets it."""
    await hello(hive, "ann")
    data = encode("POST", "/v1/messages/receive", {"instance": INSTANCE, "wait_seconds": LONG})
    for number in range(10):
        _, writer = await asyncio.open_unix_connection(str(hive.core_socket("ann")))
        writer.write(data)
        await writer.drain()
        if number % 2:
            await answered(hive, 1)
        # The send and the hang-up meet the poll in any order.
        sending = asyncio.create_task(hive.ask("POST", "/v1/messages", {"to": "ann", "body": str(number)}))
        writer.transport.abort()
        await sending
        answer = await asyncio.wait_for(receive(hive, "ann", LONG, holding=[]), PROMPT)
        assert [message["body"] for message in answer["deliveries"]] == [str(number)]
        ids = [message["id"] for message in answer["deliveries"]]
        await hive.ask("POST", "/v1/messages/ack", {"instance": INSTANCE, "ids": ids}, agent="ann")


async def test_release_wakes(hive: Daemon) -> None:
    """A message that is given back goes to whoever waits for it, marked as redelivered."""
    await hello(hive, "ann")
    await hive.ask("POST", "/v1/messages", {"to": "ann", "body": "x"})
    await receive(hive, "ann", 0)
    waiting = receive(hive, "ann", LONG)
    await answered(hive)
    await hive.ask("POST", "/v1/messages/release", {"instance": INSTANCE}, agent="ann")
    (message,) = (await asyncio.wait_for(waiting, PROMPT))["deliveries"]
    assert (message["body"], message["attempt"], message["redelivered"]) == ("x", 2, True)


async def test_superseded_while_waiting(hive: Daemon) -> None:
    """A waiting harness learns at once that another one speaks for its agent now."""
    await hello(hive, "ann")
    body = {"instance": INSTANCE, "wait_seconds": LONG}
    waiting = asyncio.create_task(request(hive.core_socket("ann"), "POST", "/v1/messages/receive", body))
    await answered(hive)
    await hive.ask("POST", "/v1/harness/hello", {"instance": "instance-2", "version": "1"}, agent="ann")
    reply = await asyncio.wait_for(waiting, PROMPT)
    assert (reply.status, reply.code) == (409, "superseded")


async def test_reply(hive: Daemon) -> None:
    """The operator waits for the answer to a message, not for another one, and only for messages of its own."""
    asked = (await hive.ask("POST", "/v1/messages", {"to": "ann", "body": "how are you?"}))["id"]
    waiting = asyncio.create_task(hive.ask("GET", f"/v1/messages/{asked}/reply?wait_seconds={LONG}"))
    await answered(hive)
    unrelated = {"to": "operator", "body": "I am bob"}
    await hive.ask("POST", "/v1/messages", unrelated, agent="bob")
    await answered(hive)
    assert not waiting.done()
    answer = {"to": "operator", "body": "well", "reply_to": asked}
    mine = (await hive.ask("POST", "/v1/messages", answer, agent="ann"))["id"]
    reply = (await asyncio.wait_for(waiting, PROMPT))["reply"]
    assert (reply["id"], reply["sender"], reply["body"], reply["reply_to"]) == (mine, "ann", "well", asked)
    # Once read it is no news any more.
    await hive.ask("POST", "/v1/messages/read", {"ids": [mine]})
    assert await hive.ask("GET", f"/v1/messages/{asked}/reply") == {"reply": None, "handled": False}
    foreign = await request(hive.host_socket, "GET", f"/v1/messages/{mine}/reply")
    assert (foreign.status, foreign.code) == (404, "unknown_message")


async def test_logs(hive: Daemon) -> None:
    """A reader that waits with a cursor gets the lines that come after it, none twice."""
    empty = await hive.ask("GET", "/v1/agents/ann/logs")
    assert empty["lines"] == []
    target = f"/v1/agents/ann/logs?cursor={empty['cursor']}&wait_seconds={LONG}"
    waiting = asyncio.create_task(hive.ask("GET", target))
    await answered(hive)
    assert not waiting.done()
    await hive.ask("POST", "/v1/agents/ann/start")
    await hive.agent_until("ann", lambda status: status["state"] == "idle")
    seen, cursor = [], (first := await asyncio.wait_for(waiting, PROMPT))["cursor"]
    seen += first["lines"]
    assert seen
    await hive.ask("POST", "/v1/agents/ann/stop")
    while lines := (answer := await hive.ask("GET", f"/v1/agents/ann/logs?cursor={cursor}"))["lines"]:
        seen, cursor = seen + lines, answer["cursor"]
    assert seen == (await hive.ask("GET", "/v1/agents/ann/logs?lines=10000"))["lines"]


async def test_stop_ends_long_polls(hive: Daemon) -> None:
    """A daemon that stops answers everybody who waits, and is gone soon."""
    await hello(hive, "ann")
    asked = (await hive.ask("POST", "/v1/messages", {"to": "bob", "body": "x"}))["id"]
    cursor = (await hive.ask("GET", "/v1/agents/ann/logs"))["cursor"]
    wait = f"wait_seconds={LONG}"
    streams = []
    for place, data in (
        (hive.core_socket("ann"), encode("POST", "/v1/messages/receive", {"instance": INSTANCE, "wait_seconds": LONG})),
        (hive.host_socket, encode("GET", f"/v1/messages/{asked}/reply?{wait}")),
        (hive.host_socket, encode("GET", f"/v1/agents/ann/logs?cursor={cursor}&{wait}")),
        (hive.core_socket("hm1nd"), encode("GET", f"/v1/agents/ann/logs?cursor={cursor}&{wait}")),
    ):
        reader, writer = await asyncio.open_unix_connection(str(place))
        writer.write(data)
        await writer.drain()
        streams.append((reader, writer))
    await answered(hive)
    assert await hive.terminate(PROMPT) == 0
    answers = [parse(await asyncio.wait_for(reader.read(), PROMPT)) for reader, _ in streams]
    assert [answer.status for answer in answers] == [200] * 4
    assert answers[0].json == {"deliveries": [], "waiting": 0}
    assert answers[1].json == {"reply": None, "handled": False}
    assert all(answer.json == {"lines": [], "cursor": cursor} for answer in answers[2:])
    assert not hive.host_socket.exists()
    for _, writer in streams:
        writer.close()
