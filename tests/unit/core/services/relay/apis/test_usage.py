"""What the vendors' answers say of tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hive_core.protocol.models.usage import TokenCounts
from hive_core.protocol.models.vendors import VendorApi
from hive_core.services.relay.apis.usage import UsageReader

Events = list[dict[str, Any] | str]

ANTHROPIC: Events = [
    {
        "type": "message_start",
        "message": {
            "model": "claude-x",
            "content": [],
            "usage": {
                "input_tokens": 3,
                "cache_read_input_tokens": 200,
                "cache_creation_input_tokens": 50,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 40},
                "output_tokens": 1,
            },
        },
    },
    {"type": "ping"},
    {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Grüße"}},
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {
            "output_tokens": 90,
            "output_tokens_details": {"thinking_tokens": 30},
            "server_tool_use": {"web_search_requests": 2},
        },
    },
    {"type": "message_stop"},
]
RESPONSES: Events = [
    {"type": "response.created", "response": {"id": "r", "model": "gpt-x", "usage": None}},
    {"type": "response.output_text.delta", "delta": "Hello"},
    {"type": "response.function_call_arguments.delta", "delta": "{}"},
    {
        "type": "response.completed",
        "response": {
            "model": "gpt-x-1",
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
                "output_tokens": 20,
                "output_tokens_details": {"reasoning_tokens": 5},
            },
        },
    },
]
CHAT: Events = [
    {"model": "gpt-y", "choices": [{"delta": {"role": "assistant", "content": "Hello"}}], "usage": None},
    {"model": "gpt-y", "choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]},
    {
        "model": "gpt-y",
        "choices": [],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}},
    },
    "[DONE]",
]
GOOGLE: Events = [
    {
        "modelVersion": "gemini-x",
        "candidates": [{"content": {"parts": [{"text": "Hel"}]}}],
        "usageMetadata": {"promptTokenCount": 30, "cachedContentTokenCount": 10, "thoughtsTokenCount": 5},
    },
    {
        "modelVersion": "gemini-x",
        "candidates": [{"content": {"parts": [{"text": "lo"}]}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 30,
            "cachedContentTokenCount": 10,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 5,
            "toolUsePromptTokenCount": 2,
        },
    },
]
WHOLE: dict[str, tuple[VendorApi, Events, str, int, TokenCounts]] = {
    "anthropic": (
        "anthropic",
        ANTHROPIC,
        "claude-x",
        13,
        TokenCounts(input=3, cache_read=200, cache_write=10, cache_write_hour=40, output=90, reasoning=30, searches=2),
    ),
    "responses": (
        "openai",
        RESPONSES,
        "gpt-x-1",
        7,
        TokenCounts(input=30, cache_read=60, cache_write=10, output=20, reasoning=5),
    ),
    "chat": ("openai", CHAT, "gpt-y", 7, TokenCounts(input=2, cache_read=8, output=4)),
    "google": ("google", GOOGLE, "gemini-x", 5, TokenCounts(input=22, cache_read=10, output=12, reasoning=5)),
}


def text_of(events: Events, end: str = "\n") -> bytes:
    lines = [f"data: {each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)}" for each in events]
    return "".join(f"event: x{end}{line}{end}{end}" for line in lines).encode()


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_streams_are_read_in_any_pieces(name: str, end: str, size: int) -> None:
    """The figures are the same in whatever pieces the stream comes, with every end of lines."""
    api, events, model, written, tokens = WHOLE[name]
    reader = UsageReader(api, stream=True)
    text = text_of(events, end)
    for start in range(0, len(text), size):
        reader.feed(text[start : start + size])
    reader.finish()
    assert (reader.model, reader.written, reader.tokens, reader.complete) == (model, written, tokens, True)


@pytest.mark.parametrize("name", WHOLE)
def test_streams_that_break_off_are_not_complete(name: str) -> None:
    """Without the last figures an answer is not complete; what was told before counts."""
    api, events, _, _, _ = WHOLE[name]
    reader = UsageReader(api, stream=True)
    last = {"anthropic": 5, "responses": 3, "chat": 2, "google": 1}[name]
    reader.feed(text_of(events[:last]))
    reader.finish()
    assert not reader.complete
    assert (reader.tokens is not None) == (name in ("anthropic", "google"))


BODIES: list[tuple[VendorApi, dict[str, Any], TokenCounts, int]] = [
    (
        "anthropic",
        {"model": "m", "content": [{"type": "text", "text": "abc"}], "usage": {"input_tokens": 1, "output_tokens": 2}},
        TokenCounts(input=1, output=2),
        3,
    ),
    (
        "openai",
        {
            "model": "m",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "abcd"}]}],
            "usage": {"input_tokens": 1, "output_tokens": 2},
        },
        TokenCounts(input=1, output=2),
        4,
    ),
    (
        "openai",
        {
            "model": "m",
            "choices": [{"message": {"content": "ab"}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2},
        },
        TokenCounts(input=1, output=2),
        2,
    ),
    (
        "google",
        {
            "modelVersion": "m",
            "candidates": [{"content": {"parts": [{"text": "a"}]}}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2},
        },
        TokenCounts(input=1, output=2),
        1,
    ),
]


@pytest.mark.parametrize(("api", "body", "tokens", "written"), BODIES)
def test_bodies_are_read(api: VendorApi, body: dict[str, Any], tokens: TokenCounts, written: int) -> None:
    """An answer as one body tells the same as a stream."""
    reader = UsageReader(api, stream=False)
    for byte in json.dumps(body).encode():
        reader.feed(bytes([byte]))
    reader.finish()
    assert (reader.model, reader.tokens, reader.written, reader.complete) == ("m", tokens, written, True)


@pytest.mark.parametrize(
    "usage", [{"input_tokens": -1}, {"input_tokens": "9"}, {"input_tokens": 1e30}, {"input_tokens": True}]
)
@pytest.mark.parametrize("stream", [True, False])
def test_figures_that_are_none_are_not_believed(usage: dict[str, object], stream: bool) -> None:
    """Negative, huge and textual figures are as good as none."""
    reader = UsageReader("anthropic", stream=stream)
    body = {"usage": {"output_tokens": 5, **usage}}
    start = {"type": "message_start", "message": body}
    reader.feed(text_of([start]) if stream else json.dumps(body).encode())
    reader.finish()
    assert reader.tokens is None


def test_more_cached_than_given_is_not_believed() -> None:
    """A part that is larger than the whole makes the figures unusable."""
    reader = UsageReader("openai", stream=False)
    usage = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 6}, "output_tokens": 1}
    reader.feed(json.dumps({"usage": usage}).encode())
    reader.finish()
    assert reader.tokens is None


def test_a_compaction_within_a_call_is_counted() -> None:
    """Passes that the figures at the top leave out are added."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "iterations": [
            {"type": "compaction", "input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 7},
            {"type": "message", "input_tokens": 10, "output_tokens": 5},
        ],
    }
    reader = UsageReader("anthropic", stream=False)
    reader.feed(json.dumps({"usage": usage}).encode())
    reader.finish()
    assert reader.tokens == TokenCounts(input=110, cache_read=7, output=55)


@pytest.mark.parametrize(
    "text",
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: {"type": "message_start", "message": [1]}\n\n',
        b'data: {"type": 5, "usage": 7, "choices": {"a": [1]}, "candidates": 9}\n\n',
        b"\xff\xfe\n\n\r\r",
        b"data" * 1_000,
    ],
)
@pytest.mark.parametrize("api", ["anthropic", "openai", "google"])
def test_odd_answers_are_survived(api: VendorApi, text: bytes) -> None:
    """What cannot be read says nothing, and what comes after it is read."""
    reader = UsageReader(api, stream=True)
    reader.feed(text + b"\n\n" + text_of(ANTHROPIC))
    reader.finish()
    assert api != "anthropic" or reader.complete


def test_endless_events_are_not_kept() -> None:
    """An event without an end takes no more memory than the largest that is read."""
    reader = UsageReader("anthropic", stream=True)
    for _ in range(40):
        reader.feed(b"data: " + b"x" * 1_000_000)
    assert reader._events is not None
    assert reader._events.skipped
    assert len(reader._events._rest) + reader._events._size < 9_000_000
    reader.feed(b"\n\n" + text_of(ANTHROPIC))
    reader.finish()
    assert reader.complete
