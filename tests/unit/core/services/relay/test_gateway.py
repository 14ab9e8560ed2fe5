"""The relay as an agent, a vendor and the daemon see it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hive_core.protocol.models.budgets import BudgetRefusal
from hive_core.protocol.models.link import (
    RelayAnswer,
    RelayEndConnections,
    RelayGone,
    RelayListener,
    RelayReserve,
    RelaySynced,
)
from hive_core.services.relay.room import ALWAYS
from tests.unit.core.services.relay.fake_vendor import (
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    TEXT,
    Received,
    stream,
    whole_message,
)
from tests.unit.core.services.relay.relay_hive import KEY, SECOND_KEY, relay_hive

MESSAGES = "/v1/messages?beta=true"
BODY: dict[str, Any] = {"model": "claude-haiku-4-5", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_call_is_passed_on_with_the_key() -> None:
    """The vendor gets the request with its key and a bound, the agent the whole stream, the daemon the figures."""
    async with relay_hive() as hive:
        status, content, headers = await hive.post(
            MESSAGES, BODY, headers={"x-api-key": "placeholder", "anthropic-version": "2023-06-01", "Cookie": "a=b"}
        )
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert [json.loads(line[6:])["type"] for line in content.splitlines() if line] == [
            "message_start",
            "content_block_delta",
            "message_delta",
            "message_stop",
        ]
        (received,) = hive.vendor.requests
        assert (received.path, received.query, received.headers["x-api-key"]) == ("/v1/messages", {"beta": "true"}, KEY)
        assert received.json == {**BODY, "max_tokens": 32_000}
        assert received.headers["anthropic-version"] == "2023-06-01"
        assert "cookie" not in received.headers
        assert "set-cookie" not in headers
        end = await hive.daemon.end_of_call()
        (reserve,) = hive.daemon.reserved
        assert (reserve.call, reserve.agent, reserve.provider, reserve.bytes) == (
            end.call,
            "ada",
            "vendor",
            len(received.body),
        )
        assert reserve.max_tokens == 32_000
        assert end.tokens is not None
        assert (end.outcome, end.status, end.served, end.complete) == ("done", 200, "claude-haiku-4-5", True)
        assert (end.tokens.input, end.tokens.output, end.answered_bytes) == (100, 20, 9)
        assert end.first_byte is not None


async def test_nothing_is_sent_before_it_is_granted() -> None:
    """The vendor hears of a call only after the daemon has stored its reservation."""
    async with relay_hive() as hive:

        async def decide(request: RelayReserve) -> RelayAnswer:
            assert hive.vendor.requests == []
            return RelayAnswer(id=request.id, granted=True)

        hive.daemon.decide = decide
        assert (await hive.post(MESSAGES, BODY))[0] == 200


async def test_a_budget_refuses_in_the_vendors_shape() -> None:
    """A refusal is a 403 that the agent's program does not repeat, with the numbers; nothing is sent or settled."""
    refusal = BudgetRefusal(
        whose="ada", measure="money", period="day", limit=5, spent=4.9, reserved=0.05, reserve=0.2, until=86_400
    )

    async def decide(request: RelayReserve) -> RelayAnswer:
        return RelayAnswer(id=request.id, refusal=refusal)

    async with relay_hive() as hive:
        hive.daemon.decide = decide
        status, content, _ = await hive.post(MESSAGES, BODY)
        error = json.loads(content)
        assert (status, error["type"], error["error"]["type"]) == (403, "error", "permission_error")
        for number in ("$5", "$4.9", "$0.05", "$0.2"):
            assert number in error["error"]["message"]
        assert (hive.vendor.requests, hive.daemon.settled) == ([], [])


async def test_a_ledger_that_cannot_be_written_is_waited_for() -> None:
    """While the daemon cannot reserve money, its disk being full, calls are refused so that programs repeat them."""

    async def decide(request: RelayReserve) -> RelayAnswer:
        return RelayAnswer(id=request.id, problem="the disk is full")

    async with relay_hive() as hive:
        hive.daemon.decide = decide
        status, content, headers = await hive.post(MESSAGES, BODY)
        assert (status, "retry-after" in headers, b"the disk is full" in content) == (503, True, True)
        assert hive.vendor.requests == []


async def test_a_stream_comes_as_it_is_made() -> None:
    """Each event reaches the agent before the vendor makes the next one."""
    heard = asyncio.Event()

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in (MESSAGE_START, TEXT, MESSAGE_DELTA):
            heard.clear()
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            await heard.wait()
        return response

    async with relay_hive(respond) as hive, hive.session.post(hive.url(MESSAGES), json=BODY) as answer:
        async for _ in answer.content.iter_any():
            heard.set()
        assert (await hive.daemon.end_of_call()).complete


async def test_a_broken_stream_is_settled_so_far() -> None:
    """If the vendor breaks off, the agent's program is told within the stream, and what was said counts."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        return await stream(request, MESSAGE_START, TEXT, end=False)

    async with relay_hive(respond) as hive:
        _, content, _ = await hive.post(MESSAGES, BODY)
        assert json.loads(content.splitlines()[-2][6:])["type"] == "error"
        end = await hive.daemon.end_of_call()
        assert end.tokens is not None
        assert (end.outcome, end.complete, end.tokens.input, end.answered_bytes) == ("broken", False, 100, 9)


async def test_an_agent_that_hangs_up_ends_the_call() -> None:
    """The vendor's connection is closed when the agent hangs up, and the call is settled with what was said."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(MESSAGE_START)}\n\n".encode())
        await asyncio.Event().wait()
        return response

    async with relay_hive(respond) as hive:
        async with hive.session.post(hive.url(MESSAGES), json=BODY) as answer:
            await answer.content.readany()
            answer.close()
        end = await hive.daemon.end_of_call()
        assert end.tokens is not None
        assert (end.outcome, end.complete, end.tokens.input) == ("left", False, 100)
        await asyncio.wait_for(hive.vendor.hung_up.wait(), 10)


async def test_an_agent_that_hangs_up_after_the_last_event_has_its_answer() -> None:
    """A program that does not wait for the end of the stream has had a whole answer: the call is done."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in (MESSAGE_START, TEXT, MESSAGE_DELTA, MESSAGE_STOP):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await asyncio.Event().wait()
        return response

    async with relay_hive(respond) as hive:
        async with hive.session.post(hive.url(MESSAGES), json=BODY) as answer:
            content = b""
            while b"message_stop" not in content:
                content += await answer.content.readany()
            answer.close()
        end = await hive.daemon.end_of_call()
        assert (end.outcome, end.complete) == ("done", True)


async def test_an_agent_that_hangs_up_early_is_settled() -> None:
    """A call whose agent hangs up before the first byte is settled without figures."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with relay_hive(respond) as hive:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await hive.post(MESSAGES, BODY)
        end = await hive.daemon.end_of_call()
        assert (end.outcome, end.tokens) == ("left", None)


@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_the_next_key_is_tried(status: int) -> None:
    """If the vendor is overloaded for one key, the next one is tried, and the first one last for a while."""

    async def respond(request: web.Request, received: Received) -> web.StreamResponse:
        if received.headers["x-api-key"] == KEY:
            return web.json_response({"error": {}}, status=status, headers={"Retry-After": "30"})
        return await whole_message(request, received)

    async with relay_hive(respond, keys=["key", "second"]) as hive:
        for _ in range(2):
            assert (await hive.post(MESSAGES, BODY))[0] == 200
        used = [each.headers["x-api-key"] for each in hive.vendor.requests]
        assert used == [KEY, SECOND_KEY, SECOND_KEY]
        await hive.daemon.end_of_call(2)
        assert len(hive.daemon.reserved) == 2


async def test_the_last_keys_refusal_is_passed_on() -> None:
    """If all keys are at their limit, the agent gets the vendor's own answer and its time; the call costs nothing."""

    async def respond(request: web.Request, received: Received) -> web.StreamResponse:
        return web.json_response(
            {"error": {"n": received.headers["x-api-key"]}}, status=429, headers={"Retry-After": "7"}
        )

    async with relay_hive(respond, keys=["key", "second"]) as hive:
        status, content, headers = await hive.post(MESSAGES, BODY)
        assert (status, headers["retry-after"]) == (429, "7")
        assert b"[hidden]" in content
        assert KEY.encode() not in content
        assert SECOND_KEY.encode() not in content
        end = await hive.daemon.end_of_call()
        assert (end.outcome, end.status, end.tokens) == ("failed", 429, None)


async def test_a_key_that_is_not_accepted_is_not_shown() -> None:
    """The vendor's words about a wrong key are replaced: they hold parts of it."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"Incorrect API key: {KEY[:8]}***"}}, status=401)

    async with relay_hive(respond) as hive:
        status, content, _ = await hive.post(MESSAGES, BODY)
        # Programs repeat a call after 401, and replace the text by one about a key of their own.
        assert (status, KEY[:8].encode() in content) == (403, False)
        assert b"hyperhive stopped: the provider" in content
        assert (await hive.daemon.end_of_call()).status == 401


async def test_redirects_are_not_followed() -> None:
    """A vendor that answers with another address gets no key there."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/elsewhere")

    async with relay_hive(respond) as hive:
        status, content, headers = await hive.post(MESSAGES, BODY)
        assert (status, "location" in headers) == (502, False)
        assert len(hive.vendor.requests) == 1
        assert b"redirect" in content


async def test_a_vendor_that_is_away_costs_nothing() -> None:
    """If no connection can be made, nothing was sent."""
    async with relay_hive() as hive:
        hive.vendor.url = "http://127.0.0.1:1"
        await hive.configure()
        await hive.served()
        assert (await hive.post(MESSAGES, BODY))[0] == 502
        assert (await hive.daemon.end_of_call()).outcome == "not_sent"


@pytest.mark.parametrize("name", ["gone", "open", "empty", "link"])
async def test_keys_that_others_can_read_are_not_used(name: str) -> None:
    """A credential that is missing, empty, a link, or readable by others serves no call, and says so."""
    async with relay_hive() as hive:
        keys = hive.directory / "keys"
        (keys / "open").touch(mode=0o644)
        (keys / "open").write_text(KEY)
        (keys / "open").chmod(0o644)
        (keys / "empty").touch(mode=0o600)
        (keys / "link").symlink_to(keys / "key")
        hive.keys = [name]
        await hive.configure()
        await hive.served()
        status, content, _ = await hive.post(MESSAGES, BODY)
        assert (status, hive.vendor.requests) == (503, [])
        assert KEY.encode() not in content


async def test_a_placeholder_is_checked() -> None:
    """On a loopback that others share, only requests with the agent's placeholder are served."""
    async with relay_hive(placeholder="hive-placeholder-1") as hive:
        for headers in ({}, {"x-api-key": "x"}, {"Authorization": "Bearer x"}, {"Authorization": "hive-placeholder-1"}):
            assert (await hive.post(MESSAGES, BODY, headers=headers))[0] == 401
        for headers in ({"x-api-key": "hive-placeholder-1"}, {"Authorization": "Bearer hive-placeholder-1"}):
            assert (await hive.post(MESSAGES, BODY, headers=headers))[0] == 200
        assert all("placeholder" not in str(each.headers) for each in hive.vendor.requests)


async def test_an_agent_reaches_only_its_providers() -> None:
    """A provider that the agent has not been given is not there, nor is one without a name."""
    async with relay_hive() as hive:
        for path in ("/v1/messages", "/other/v1/messages", "//v1/messages"):
            async with hive.session.post(f"http://127.0.0.1:{hive.port}{path}", json=BODY) as answer:
                assert answer.status == 404
        assert hive.daemon.reserved == []


async def test_a_restart_of_the_daemon_is_waited_for() -> None:
    """A call that begins while the daemon is away waits for it, and the end of an earlier one is told again."""
    async with relay_hive() as hive:
        hive.daemon.confirms = False
        await hive.post(MESSAGES, BODY)
        await hive.daemon.end_of_call()
        await hive.daemon.stop()
        waiting = asyncio.create_task(hive.post(MESSAGES, BODY))
        await asyncio.sleep(0)
        hive.daemon.confirms = True
        hive.daemon.start()
        assert (await waiting)[0] == 200
        await hive.daemon.end_of_call(3)
        assert [each.call for each in hive.daemon.settled[:2]] == [hive.daemon.settled[0].call] * 2
        assert len({each.instance for each in hive.daemon.hellos}) == 1
        assert len(hive.daemon.hellos) == 2


async def test_calls_go_on_while_the_daemon_is_away() -> None:
    """A stream that has begun is not ended by the daemon's restart."""
    go_on = asyncio.Event()

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(MESSAGE_START)}\n\n".encode())
        await go_on.wait()
        await response.write(f"data: {json.dumps(MESSAGE_DELTA)}\n\n".encode())
        return response

    async with relay_hive(respond) as hive:
        call = asyncio.create_task(hive.post(MESSAGES, BODY))
        await hive.vendor.arrived.wait()
        await hive.daemon.stop()
        go_on.set()
        assert (await call)[0] == 200
        hive.daemon.start()
        end = await hive.daemon.end_of_call()
        assert (end.outcome, end.complete) == ("done", True)


async def test_a_listener_that_a_new_daemon_does_not_give_is_left() -> None:
    """Nobody is served with the key of an agent that stopped while the daemon was away; one that runs is again."""
    async with relay_hive() as hive:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            async def give() -> None:
                await hive.daemon.send(RelayListener(name="ada", key="k" * 32), listener.fileno())

            hive.port = listener.getsockname()[1]
            await give()
            await hive.served()
            hive.gateway._given.clear()  # As it is after a connect.
            await hive.daemon.send(RelaySynced())
            while hive.gateway._listeners or hive.gateway._closing:
                await asyncio.sleep(0.005)
            headers = {"x-api-key": "k" * 32}
            call = asyncio.create_task(hive.post(MESSAGES, BODY, headers=headers))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(call), 0.2)
            assert hive.daemon.reserved == []
            await give()
            assert (await call)[0] == 200


@pytest.mark.parametrize("how", ["end", "gone", "not sent again"])
async def test_the_daemon_ends_calls(how: str) -> None:
    """Calls end when the daemon says so, or their agent is gone: within the stream, and settled."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(MESSAGE_START)}\n\n".encode())
        await asyncio.Event().wait()
        return response

    async with relay_hive(respond) as hive, hive.session.post(hive.url(MESSAGES), json=BODY) as answer:
        await answer.content.readany()
        if how == "not sent again":
            hive.gateway.policy.begin()
        packets = {"end": RelayEndConnections(name="ada"), "gone": RelayGone(name="ada")}
        await hive.daemon.send(packets.get(how, RelaySynced()))
        rest = await answer.content.read()
        assert json.loads(rest.splitlines()[-2][6:])["type"] == "error"
        assert (await hive.daemon.end_of_call()).outcome == "broken"


async def test_the_daemon_ends_calls_whose_agents_do_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends when the daemon says so, also if its agent leaves the answer unread."""
    monkeypatch.setattr("hive_core.services.relay.call._LAST_SECONDS", 0.05)

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        return await stream(request, MESSAGE_START, *["x" * 1_000_000] * 100)

    data = json.dumps(BODY).encode()
    async with relay_hive(respond) as hive:
        reader, writer = await asyncio.open_connection("127.0.0.1", hive.port, limit=1_000)
        writer.write(b"POST /vendor/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        await reader.readline()
        (call,) = hive.gateway._agents["ada"]._calls
        while call._writing is None:
            await asyncio.sleep(0.005)
        await hive.daemon.send(RelayEndConnections(name="ada"))
        async with asyncio.timeout(10):
            assert (await hive.daemon.end_of_call()).outcome == "broken"
        writer.close()


async def test_a_relay_that_stops_ends_politely() -> None:
    """Calls may end by themselves for a while, and the last settlements are confirmed before the process ends."""
    go_on = asyncio.Event()

    async def respond(request: web.Request, received: Received) -> web.StreamResponse:
        await go_on.wait()
        return await whole_message(request, received)

    async with relay_hive(respond) as hive:
        call = asyncio.create_task(hive.post(MESSAGES, BODY))
        await hive.vendor.arrived.wait()
        closing = asyncio.create_task(hive.gateway.close(10))
        await asyncio.sleep(0)
        go_on.set()
        assert (await call)[0] == 200
        await closing
        assert [each.outcome for each in hive.daemon.settled] == ["done"]
        with pytest.raises(aiohttp.ClientError):
            await hive.post(MESSAGES, BODY)


async def test_callers_wait_for_the_next_relay() -> None:
    """A relay that stops leaves the listener as it was, so that calls wait for the one that is started next."""
    async with relay_hive() as hive:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            hive.port = listener.getsockname()[1]
            await hive.daemon.send(RelayListener(name="ada"), listener.fileno())
            await hive.served()
            await hive.gateway.close(0)
            with socket.create_connection(listener.getsockname(), timeout=10) as caller:
                caller.send(b"POST")
                taken, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 20)
                taken.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_wrong_descriptors_are_closed() -> None:
    """What is no listening stream socket is refused, and the agent's listener stays."""
    async with relay_hive() as hive:
        before = open_descriptors()
        read, write = os.pipe()
        with (
            socket.socket(socket.AF_INET) as not_listening,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        ):
            for descriptor in (read, write, not_listening.fileno(), datagram.fileno(), None):
                await hive.daemon.send(RelayListener(name="ada"), descriptor)
        os.close(read)
        os.close(write)
        assert (await hive.post(MESSAGES, BODY))[0] == 200
        await hive.daemon.end_of_call()
        assert open_descriptors() <= before + 2


async def test_calls_of_an_agent_are_bounded() -> None:
    """More calls at once than allowed are refused with a time to try again."""
    go_on = asyncio.Event()

    async def respond(request: web.Request, received: Received) -> web.StreamResponse:
        await go_on.wait()
        return await whole_message(request, received)

    async with relay_hive(respond, provider_more={"calls_at_once": 2}) as hive:
        calls = [asyncio.create_task(hive.post(MESSAGES, BODY)) for _ in range(2)]
        await hive.daemon.until(lambda: len(hive.daemon.reserved) == 2)
        status, _, headers = await hive.post(MESSAGES, BODY)
        assert (status, "retry-after" in headers) == (429, True)
        go_on.set()
        assert [(await call)[0] for call in calls] == [200, 200]


async def test_answers_that_are_no_stream_are_read() -> None:
    """An answer as one body is passed on, and its figures count; counting tokens needs no reservation."""

    async def respond(request: web.Request, received: Received) -> web.StreamResponse:
        if received.path.endswith("count_tokens"):
            return web.json_response({"input_tokens": 12})
        return web.json_response({"model": "m", "usage": {"input_tokens": 5, "output_tokens": 6}})

    async with relay_hive(respond) as hive:
        plain = {key: value for key, value in BODY.items() if key != "stream"}
        assert (await hive.post("/v1/messages", plain))[0] == 200
        end = await hive.daemon.end_of_call()
        assert end.tokens is not None
        assert (end.tokens.input, end.tokens.output, end.complete) == (5, 6, True)
        assert (await hive.post("/v1/messages/count_tokens", plain))[1] == b'{"input_tokens": 12}'
        assert "max_tokens" not in hive.vendor.requests[1].json
        assert len(hive.daemon.reserved) == 1


async def test_compressed_answers_are_read() -> None:
    """A vendor that compresses although it is asked not to is understood, and the agent gets plain text."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        assert request.headers["Accept-Encoding"] == "identity"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        for event in (MESSAGE_START, MESSAGE_DELTA):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        return response

    async with relay_hive(respond) as hive:
        status, content, headers = await hive.post(MESSAGES, BODY)
        assert (status, "content-encoding" in headers, content.count(b"data: ")) == (200, False, 2)
        assert (await hive.daemon.end_of_call()).complete


async def test_models_are_listed_with_the_key() -> None:
    """A GET of models is passed on with the key and without a body; it costs nothing."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        return web.json_response({"data": []})

    async with relay_hive(respond) as hive:
        async with hive.session.get(hive.url("/v1/models?limit=5")) as answer:
            assert (answer.status, await answer.json()) == (200, {"data": []})
        (received,) = hive.vendor.requests
        assert (received.method, received.query, received.body) == ("GET", {"limit": "5"}, b"")
        assert received.headers["x-api-key"] == KEY
        assert hive.daemon.reserved == []


async def test_large_bodies_are_sent_whole() -> None:
    """A request of megabytes is checked on a thread, and reaches the vendor as it is, with each key."""
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "ä" * 1_000_000}]}
    answers = [529, 200]

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        return web.json_response({}, status=answers.pop(0))

    async with relay_hive(respond, keys=["key", "second"]) as hive:
        assert (await hive.post("/v1/messages", data=json.dumps(body).encode()))[0] == 200
        assert [each.json for each in hive.vendor.requests] == [body, body]
        assert hive.daemon.reserved[0].bytes == len(hive.vendor.requests[0].body) > 2_000_000


async def test_bodies_are_serialised_again() -> None:
    """What the vendor reads is made from what was checked, not the bytes that came."""
    text = b'{"mod\\u0065l": "m",  "messages": [{"role":"user", "content":"\\u00e4"}], "max_tokens": 7}'
    async with relay_hive() as hive:
        assert (await hive.post("/v1/messages", data=text))[0] == 200
        expected = '{"model":"m","messages":[{"role":"user","content":"ä"}],"max_tokens":7}'
        assert hive.vendor.requests[0].body == expected.encode()


@pytest.mark.parametrize(
    ("headers", "data", "status"),
    [
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/json; charset=utf-16"}, b"{}", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"\x1f\x8b", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"model=m", 415),
        ({"Content-Type": "application/json"}, b'{"a": 1, "a": 2}', 400),
        ({"Content-Type": "application/json"}, b'"' + b"x" * (32 * 1024 * 1024) + b'"', 413),
    ],
)
async def test_bodies_of_other_kinds_are_refused(headers: dict[str, str], data: bytes, status: int) -> None:
    """A body that is compressed, too large, ambiguous, or of another type or encoding goes nowhere."""
    async with relay_hive() as hive:
        assert (await hive.post("/v1/messages", data=data, headers=headers))[0] == status
        assert (hive.vendor.requests, hive.daemon.reserved) == ([], [])
        assert hive.gateway._context is not None
        assert hive.gateway._context.room.used == 0


@pytest.mark.parametrize(
    "query",
    ["?beta=false", "?beta=true&beta=true", "?key=a&key=b", "?alt=sse", "?x=1", "?%62eta=1", "?beta=true&Beta=1"],
)
async def test_other_queries_are_refused(query: str) -> None:
    """Only known parameters of a query are passed on, each once."""
    async with relay_hive() as hive:
        assert (await hive.post(f"/v1/messages{query}", BODY))[0] == 400
        assert hive.vendor.requests == []


async def test_requests_together_are_bounded() -> None:
    """A large request is refused while those under way are too large together, and served later."""
    large = {**BODY, "messages": [{"role": "user", "content": "x" * ALWAYS}]}
    async with relay_hive() as hive:
        assert hive.gateway._context is not None
        room = hive.gateway._context.room
        room.used = room.most
        status, _, headers = await hive.post(MESSAGES, data=json.dumps(large).encode())
        assert (status, "retry-after" in headers) == (503, True)
        assert (await hive.post(MESSAGES, BODY))[0] == 200
        room.used = 0
        assert (await hive.post(MESSAGES, data=json.dumps(large).encode()))[0] == 200
        assert (room.used, room.used_by) == (0, {})


RESPONSE = {"type": "response.completed", "response": {"model": "g", "usage": {"input_tokens": 9, "output_tokens": 3}}}
CHUNK = {"choices": [], "model": "g", "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
CANDIDATE = {
    "candidates": [{"finishReason": "STOP"}],
    "modelVersion": "g",
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3},
}


@pytest.mark.parametrize(
    ("api", "path", "body", "event", "header", "sent_path"),
    [
        ("openai", "/v1/responses", {"model": "g", "stream": True, "input": "x"}, RESPONSE, "authorization", None),
        (
            "openai",
            "/v1/chat/completions",
            {"model": "g", "stream": True, "messages": []},
            CHUNK,
            "authorization",
            None,
        ),
        (
            "google",
            "/v1beta/models/g:streamGenerateContent?alt=sse&key=placeholder",
            {"contents": []},
            CANDIDATE,
            "x-goog-api-key",
            "/v1beta/models/g:streamGenerateContent",
        ),
    ],
)
async def test_the_other_vendors(
    api: str, path: str, body: dict[str, Any], event: dict[str, Any], header: str, sent_path: str | None
) -> None:
    """OpenAI's two APIs and Google's are served alike: the key in their header, their errors, their figures."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        return await stream(request, event)

    async with relay_hive(respond, api=api) as hive:
        assert (await hive.post(path, body))[0] == 200
        (received,) = hive.vendor.requests
        assert (received.path, received.headers[header].removeprefix("Bearer ")) == (sent_path or path, KEY)
        assert received.query == ({"alt": "sse"} if api == "google" else {})
        end = await hive.daemon.end_of_call()
        assert end.tokens is not None
        assert (end.served, end.tokens.input, end.tokens.output, end.complete) == ("g", 9, 3, True)
        status, content, _ = await hive.post(path, {**body, "made_up": 1})
        assert (status, "message" in json.loads(content)["error"]) == (400, True)


async def test_a_stream_of_google_is_events() -> None:
    """Google's streams as one JSON list are not served, because their figures would come too late."""
    async with relay_hive(api="google") as hive:
        assert (await hive.post("/v1beta/models/g:streamGenerateContent", {"contents": []}))[0] == 400
