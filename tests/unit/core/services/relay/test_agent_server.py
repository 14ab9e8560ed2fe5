"""The bounds of what one agent takes of the relay, and of what it leaves in the relay's log."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from hive_core.services.relay.apis.strict_json import MOST_MARKS, BadJson, parse
from hive_core.services.relay.room import ALWAYS, MOST_OF_ONE, RequestRoom
from tests.unit.core.services.relay.fake_vendor import Received, whole_message
from tests.unit.core.services.relay.relay_hive import relay_hive

MESSAGES = "/v1/messages?beta=true"
BODY: dict[str, Any] = {"model": "claude-haiku-4-5", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
HEAD = b"POST /vendor/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def test_one_agent_does_not_take_all_the_room() -> None:
    """An agent may hold a part of the room only, and always a little, whatever the others hold."""
    room = RequestRoom(2 * MOST_OF_ONE)
    with room.hold("ada") as first, room.hold("ada") as second, room.hold("bob") as bobs, room.hold("cy") as cys:
        assert first.add(MOST_OF_ONE)
        assert not second.add(1)
        assert bobs.add(MOST_OF_ONE)
        assert cys.add(ALWAYS)
        assert not cys.add(1)
    assert (room.used, room.used_by) == (0, {})


async def test_calls_whose_bodies_are_slow_are_bounded() -> None:
    """An agent does not get more calls at once by sending the bodies of all of them after their heads."""
    go_on = asyncio.Event()

    async def respond(request: web.Request, received: Received) -> web.StreamResponse:
        await go_on.wait()
        return await whole_message(request, received)

    data = json.dumps(BODY).encode()
    async with relay_hive(respond, provider_more={"calls_at_once": 2}) as hive, AsyncExitStack() as stack:
        callers = [await asyncio.open_connection("127.0.0.1", hive.port) for _ in range(6)]
        for _, writer in callers:
            stack.callback(writer.close)
            writer.write(HEAD % len(data))
        # Those that are too many hear it before their bodies are there.
        refused = [asyncio.create_task(reader.readline()) for reader, _ in callers]
        while sum(each.done() for each in refused) < 4:
            await asyncio.wait([each for each in refused if not each.done()], return_when=asyncio.FIRST_COMPLETED)
        for _, writer in callers:
            writer.write(data)
        await hive.daemon.until(lambda: len(hive.daemon.reserved) == 2)
        go_on.set()
        assert sorted([(await each).split()[1] for each in refused]) == [b"200"] * 2 + [b"429"] * 4
        assert len(hive.daemon.reserved) == 2


async def test_requests_that_are_refused_wait_in_the_end() -> None:
    """An agent that is refused again and again is answered ever slower; calls that are served cost it nothing."""
    loop = asyncio.get_running_loop()
    async with relay_hive() as hive:
        began = loop.time()
        await asyncio.gather(*(hive.post("/v1/other", BODY) for _ in range(110)))
        assert loop.time() - began > 0.4
        pace = hive.gateway._agents["ada"]._pace
        before = pace._paid_at
        assert (await hive.post(MESSAGES, BODY))[0] == 200
        assert pace._paid_at - before < 0.01


async def test_a_key_of_odd_bytes_is_a_wrong_key() -> None:
    """Whoever sends bytes that are no text as a key gets the answer for any wrong key, and no line in the log."""
    async with relay_hive(placeholder="hive-placeholder-1") as hive:
        reader, writer = await asyncio.open_connection("127.0.0.1", hive.port)
        with capture_logs() as logs:
            writer.write(b"POST /vendor/v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: \xff\xfe\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"401"
        writer.close()
        assert [each for each in logs if each["log_level"] != "debug"] == []


@pytest.mark.parametrize("placeholder", ["hive-placeholder-1", ""])
async def test_strangers_do_not_take_the_connections_of_an_agent(
    monkeypatch: pytest.MonkeyPatch, placeholder: str
) -> None:
    """The oldest connection that has not shown the key makes room; one that has stays, and all of a sealed agent do."""
    monkeypatch.setattr("hive_core.services.relay.agent_server._MOST_CONNECTIONS", 8)
    go_on = asyncio.Event()

    async def respond(request: web.Request, received: Received) -> web.StreamResponse:
        await go_on.wait()
        return await whole_message(request, received)

    async with relay_hive(respond, placeholder=placeholder) as hive, AsyncExitStack() as stack:
        headers = {"x-api-key": placeholder}
        first = asyncio.create_task(hive.post(MESSAGES, BODY, headers=headers))
        await hive.vendor.arrived.wait()
        strangers = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", hive.port)
            stack.callback(writer.close)
            writer.write(b"POST ")  # The kernel shows no connection before it has data.
            strangers.append(asyncio.create_task(reader.read()))
        while sum(each.done() for each in strangers) < 13:
            await asyncio.sleep(0.005)
        assert strangers[0].done() == bool(placeholder)
        assert strangers[-1].done() != bool(placeholder)
        if placeholder:
            second = asyncio.create_task(hive.post(MESSAGES, BODY, headers=headers))
            await hive.daemon.until(lambda: len(hive.daemon.reserved) == 2)
            go_on.set()
            assert (await second)[0] == 200
        go_on.set()
        assert (await first)[0] == 200
        for each in strangers:
            each.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)


async def test_a_fault_of_the_relay_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the relay itself is answered with 500 and logged without words of the request."""

    def fail(*_: object) -> None:
        raise ValueError("words of the request")

    monkeypatch.setattr("hive_core.services.relay.agent_server._check_body", fail)
    async with relay_hive() as hive:
        with capture_logs() as logs:
            for _ in range(3):
                assert (await hive.post(MESSAGES, BODY))[0] == 500
        (entry,) = [each for each in logs if each["log_level"] == "error"]
        assert entry["error"] == "ValueError"
        assert "words of" not in str(entry)


@pytest.mark.parametrize("value", [b"[],", b'{"a":0},', b"0,"])
def test_many_small_values_are_refused(value: bytes) -> None:
    """A document that would take many times its size of memory is refused before it is read."""
    data = b'{"messages": [' + value * MOST_MARKS + b"0]}"
    with pytest.raises(BadJson, match="commas"):
        parse(data)
