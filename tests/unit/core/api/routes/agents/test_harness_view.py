"""What the daemon takes from a harness, which may be any program of a hostile agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hive_core.api.routes.agents import harness_view
from hive_core.api.routes.agents.harness_view import MOST_ANSWER_BYTES, MOST_EVENT_BYTES, HarnessViews
from hive_core.errors import HiveError
from hive_core.protocol import Answer, HarnessView, Request

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def harness(place: Path, speak: Speak) -> AsyncIterator[HarnessViews]:
    """A harness that says whatever `speak` does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await speak(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_unix_server(serve, place / "ada.sock"):
        yield HarnessViews(lambda name: place / f"{name}.sock")


def saying(content: bytes, head: bytes = OK) -> Speak:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(content), content))
        await writer.drain()

    return speak


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


@pytest.mark.parametrize(
    ("speak", "code"),
    [
        pytest.param(endless, "harness_answer", id="without an end"),
        pytest.param(saying(b'{"state":"idle"' + b" " * MOST_ANSWER_BYTES + b"}"), "harness_answer", id="too large"),
        pytest.param(saying(b"<html>"), "harness_answer", id="no JSON"),
        pytest.param(saying(b'{"state":"dancing"}'), "harness_answer", id="no state"),
        pytest.param(saying(b'{"state":"idle","detail":"%s"}' % (b"x" * 5_000)), "harness_answer", id="a long text"),
        pytest.param(saying(b'{"state":"idle","cost_usd":1e999}'), "harness_answer", id="endless cost"),
        pytest.param(
            saying(b"{}", b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n"), "harness_answer", id="else"
        ),
        pytest.param(saying(b"{}", OK + b"X: " + b"y" * 100_000 + b"\r\n"), "harness_unreachable", id="a long header"),
        pytest.param(saying(b"", b"\x00\xff"), "harness_unreachable", id="no HTTP"),
    ],
)
async def test_a_hostile_answer_is_refused_in_words(tmp_path: Path, speak: Speak, code: str) -> None:
    """However a harness answers, the daemon takes a bounded answer of the right form or refuses it in ASCII words."""
    async with harness(tmp_path, speak) as views:
        with pytest.raises(HiveError) as refused:
            await views.ask("ada", "state", HarnessView)
    assert refused.value.code == code and refused.value.message.isprintable()


async def test_an_order_has_all_of_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A harness that is silent while it carries out an order is waited for, as long as the order may take."""
    monkeypatch.setattr(harness_view, "_SILENCE_SECONDS", 0.01)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)  # Longer than the silence that ends a stream.
        await saying(b"{}")(reader, writer)

    async with harness(tmp_path, slow) as views:
        assert await views.order("ada", "login", Request(), Answer, 20.0) == Answer()


async def test_a_harness_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """A request ends when its time is up, whatever the harness does."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with harness(tmp_path, silent) as views:
        with pytest.raises(HiveError) as refused:
            await views.order("ada", "cancel", Request(), HarnessView, 0.05)
    assert refused.value.code == "harness_unreachable"


async def test_a_refusal_is_quoted_as_the_agents_words(tmp_path: Path) -> None:
    """What a harness says against a request is shown in quotes, without control characters."""
    words = b'{"error":{"code":"not_now","message":"\\u001b[2Jno turn runs"}}'
    async with harness(tmp_path, saying(words, b"HTTP/1.1 409 Conflict\r\n")) as views:
        with pytest.raises(HiveError) as refused:
            await views.ask("ada", "state", HarnessView)
    assert (refused.value.code, refused.value.status) == ("not_now", 409)
    assert refused.value.message == 'ada says: "\\x1b[2Jno turn runs"'


async def test_a_stream_holds_known_events_only(tmp_path: Path) -> None:
    """A stream is passed on event by event, made anew; what is too large ends it."""
    sent = b"id: a.1\nevent: entry\ndata: {}\n\nevent: evil\nretry: 1\ndata: x\n\nid: a.2\nevent: turn\ndata: 1\n\n"

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n" + sent + b"data: " + b"y" * (MOST_EVENT_BYTES + 70_000))
        await writer.drain()

    async with harness(tmp_path, speak) as views, views.follow("ada", None) as flow:
        events = [event async for event in flow]
    assert events == [
        b"id: a.1\nevent: entry\ndata: {}\n\n",
        b": nothing new\n\n",
        b"id: a.2\nevent: turn\ndata: 1\n\n",
    ]
