"""The relay as a process: its keys, its end, and kills at every step of a call."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.usage import CallsQuery, UsageQuery
from tests.integration.relay.relay_stack import KEY, RelayStack, last_event, relay_stack
from tests.unit.core.services.relay.fake_vendor import (
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    TEXT,
    Received,
    stream,
    whole_message,
)

RESERVE = 0.002036
"""What a call of the test may cost: 1,000 tokens of output, and a third of its bytes."""
COST = 0.00014
"""What a whole answer of the test costs: 100 tokens of input, 20 of output."""


async def settled(stack: RelayStack, agent: str = "ada") -> None:
    """Wait until no call of an agent is under way."""
    async with asyncio.timeout(20):
        while (await stack.hive.money(agent))[1] > 0:
            await asyncio.sleep(0.01)


async def test_a_call_through_the_process(tmp_path: Path) -> None:
    """A call is paid for, the key reaches the vendor and nothing else, and SIGTERM ends the process well."""
    async with relay_stack(tmp_path) as stack:
        await stack.add_agent("ada")
        process = await stack.start()
        status, content = await stack.call()
        assert (status, last_event(content)["type"]) == (200, "message_stop")
        assert stack.vendor.requests[0].headers["x-api-key"] == KEY
        await settled(stack)
        assert await stack.hive.money() == (COST, 0)
        assert json.loads(await stack.status("/healthz")) == {"ok": True, "daemon": "connected"}
        metrics = await stack.status("/metrics")
        assert 'hive_relay_calls_total{outcome="done",provider="relay"} 1.0' in metrics
        proc = Path(f"/proc/{process.pid}")
        seen = b"".join((proc / name).read_bytes() for name in ("environ", "cmdline"))
        limits = (proc / "limits").read_text()
        assert await stack.end(signal.SIGTERM) == 0
        seen += stack.log.read_bytes() + content + metrics.encode()
        assert KEY.encode() not in seen
        assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
        assert not (tmp_path / "status.sock").exists()


def test_the_memory_is_protected() -> None:
    """The process with the keys writes no core dump, and its memory is closed to others of its user."""
    program = (
        "import ctypes, resource; from hive_core.services.relay.main import protect_memory; protect_memory();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "0", "0"]
    assert resource.RLIM_INFINITY != 0


async def test_fifty_agents_at_once(tmp_path: Path) -> None:
    """Of fifty agents that call at once, as many are served as the hive's budget allows; nothing is overdrawn."""
    async with relay_stack(tmp_path) as stack:
        names = [f"a{number}" for number in range(50)]
        stack.hive.hive_limits = SpendingLimits(money_per_day=RESERVE * 20 + 0.0001)
        stack.hive.restart()
        stack.link._ledger = stack.hive.ledger
        go_on = asyncio.Event()

        async def respond(request: web.Request, received: Received) -> web.StreamResponse:
            await go_on.wait()
            return await whole_message(request, received)

        stack.vendor.respond = respond
        for name in names:
            await stack.add_agent(name)
        await stack.start()
        calls = [asyncio.create_task(stack.call(name)) for name in names]
        async with asyncio.timeout(30):
            while len(stack.vendor.requests) + sum(call.done() for call in calls) < 50:
                await asyncio.sleep(0.01)
        go_on.set()
        statuses = [(await call)[0] for call in calls]
        assert sorted(statuses) == [200] * 20 + [403] * 30
        for name in names:
            await settled(stack, name)
        total = (await stack.hive.ledger.usage(UsageQuery())).total
        assert (total.calls, total.cost, total.uncertain) == (20, round(COST * 20, 9), 0)
        assert [notice.kind for notice in stack.notices] == ["exhausted"]


@pytest.mark.parametrize("step", ["sent", "within the stream", "at its end"])
async def test_a_killed_relay_loses_no_money(tmp_path: Path, step: str) -> None:
    """Wherever the relay is killed, the call has its cost or its reserve in the ledger, and the next relay works."""
    go_on = asyncio.Event()

    async def respond(request: web.Request, received: Received) -> web.StreamResponse:
        if step == "sent":
            await go_on.wait()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(MESSAGE_START)}\n\ndata: {json.dumps(TEXT)}\n\n".encode())
        if step == "within the stream":
            await go_on.wait()
        await response.write(f"data: {json.dumps(MESSAGE_DELTA)}\n\ndata: {json.dumps(MESSAGE_STOP)}\n\n".encode())
        return response

    async with relay_stack(tmp_path, respond) as stack:
        await stack.add_agent("ada")
        await stack.start()
        url = f"http://127.0.0.1:{stack.ports['ada']}/relay/v1/messages"
        body = {"model": "m", "stream": True, "max_tokens": 1_000, "messages": []}
        call = asyncio.create_task(stack.session.post(url, json=body))
        await asyncio.wait_for(stack.vendor.arrived.wait(), 20)
        if step != "sent":
            answer = await call
            await answer.content.readany()
            if step == "at its end":
                await answer.read()
        await stack.end(signal.SIGKILL)
        await asyncio.gather(call, return_exceptions=True)
        spent, reserved = await stack.hive.money()
        assert spent + reserved >= COST
        go_on.set()
        await stack.start()
        await settled(stack)
        spent, _ = await stack.hive.money()
        (first,) = (await stack.hive.ledger.calls("ada", CallsQuery(limit=5))).calls
        if step == "at its end" and first.outcome == "done":
            assert spent == COST
        else:
            assert (first.outcome, first.flags, spent) == ("lost", ["reserve"], first.reserve)
        assert (await stack.call())[0] == 200


async def test_a_broken_connection_of_the_vendor_is_counted(tmp_path: Path) -> None:
    """An answer that breaks off costs what was said so far, and is flagged."""

    async def respond(request: web.Request, _: Received) -> web.StreamResponse:
        return await stream(request, MESSAGE_START, *[TEXT] * 20, end=False)

    async with relay_stack(tmp_path, respond) as stack:
        await stack.add_agent("ada")
        await stack.start()
        assert last_event((await stack.call())[1])["type"] == "error"
        await settled(stack)
        (call,) = (await stack.hive.ledger.calls("ada", CallsQuery(limit=1))).calls
        assert (call.outcome, call.flags, call.tokens.input) == ("broken", ["estimated"], 100)
        assert call.tokens.output == 60


async def test_garbage_harms_nobody(tmp_path: Path) -> None:
    """Whatever bytes an agent sends, the relay answers or hangs up, and serves the next request."""
    garbage = [
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"POST /relay/v1/messages HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"POST /relay/v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
        b"POST /relay/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /relay/v1/messages HTTP/1.1\r\n" + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
        b"POST /relay/%2e%2e/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"POST http://example.com/relay/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"GET /relay/v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ]
    async with relay_stack(tmp_path) as stack:
        await stack.add_agent("ada")
        await stack.start()
        for data in garbage:
            reader, writer = await asyncio.open_connection("127.0.0.1", stack.ports["ada"])
            writer.write(data)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 20)
            writer.close()
        assert [each.path for each in stack.vendor.requests if each.method != "GET"] == []
        events = [json.loads(line)["event"] for line in stack.log.read_text().splitlines()]
        assert events == ["the relay is started", "connected to the daemon"]
        assert (await stack.call())[0] == 200
        with pytest.raises(aiohttp.ClientResponseError):
            (await stack.session.post(f"http://127.0.0.1:{stack.ports['ada']}/", json={})).raise_for_status()
