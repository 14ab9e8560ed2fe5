"""The relay's checks against requests that are made of everything the APIs know: none raises, none lets through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.services.relay.apis.base import CallRefused, names
from hive_core.services.relay.apis.sse import EventReader
from hive_core.services.relay.apis.strict_json import BadJson, parse, serialise
from hive_core.services.relay.apis.usage import UsageReader
from tests.unit.core.services.relay.apis.api_bodies import ALLOWED, check

KEYS = sorted(
    names(
        "type role content source tools messages input system contents parts fileData file_data file_uri url file_id"
        " file_url image_url functionResponse mcp_servers mcpServers googleSearch google_search urlContext name model"
        " codeExecution tool_calls output environment namespace store background generationConfig cachedContent text"
    )
)
VALUES = sorted(
    names(
        "text image document url file base64 message user input_image input_file input_text image_url tool_result"
        " web_search web_search_20250305 code_interpreter mcp custom function namespace http://x/ m local"
        " data:image/png;base64,AA function_call_output server_tool_use container_upload container_auto"
    )
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(VALUES), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)


def table(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


blocks: st.SearchStrategy[dict[str, Any]] = st.deferred(
    lambda: table(
        {"type": st.sampled_from(VALUES)},
        {
            "source": table({"type": st.sampled_from(["base64", "url", "file", "content"])}, {"content": some_blocks}),
            "content": some_blocks,
            "output": some_blocks,
            "file_id": st.just("f"),
            "image_url": st.sampled_from(["http://x/", "data:image/png;base64,AA"]),
        },
    )
)
some_blocks: st.SearchStrategy[list[dict[str, Any]]] = st.lists(blocks, max_size=2)
parts: st.SearchStrategy[dict[str, Any]] = st.deferred(
    lambda: table(
        {},
        {
            "text": st.just("x"),
            "file_data": st.just({}),
            "function_response": table({"name": st.just("f")}, {"parts": some_parts}),
            "functionResponse": table({"name": st.just("f")}, {"parts": some_parts}),
        },
    )
)
some_parts: st.SearchStrategy[list[dict[str, Any]]] = st.lists(parts, max_size=2)
shaped: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "messages": st.builds(lambda content: {"messages": [{"role": "user", "content": content}]}, some_blocks),
    "responses": st.builds(
        lambda first, more: {"input": [{"role": "user", "content": first}, *more]}, *[some_blocks] * 2
    ),
    "google": st.builds(lambda content: {"contents": [{"role": "user", "parts": content}]}, some_parts),
}
"""Requests in the shape of their APIs, of which many pass."""
REACHING_TYPES = names("web_search web_search_20250305 code_interpreter mcp container_upload server_tool_use")
REACHING_KEYS = names("fileData googleSearch urlContext codeExecution mcpServers cachedContent")
OF_THE_AGENT = names("functionCall response args input text cache_control title")
"""Names below which nothing is read by the vendor: arguments of calls, and what functions gave back."""


def reaches_out(api: str, value: Any) -> bool:
    """A plain search for what a vendor would fetch or run."""
    if isinstance(value, list):
        return any(reaches_out(api, each) for each in value)
    if not isinstance(value, dict):
        return False
    kind, source = value.get("type"), value.get("source")
    if api == "messages":
        if kind in REACHING_TYPES:
            return True
        if kind in ("image", "document") and (not isinstance(source, dict) or source.get("type") in ("url", "file")):
            return True
        if kind in ("text", "thinking", "tool_use", "compaction", "redacted_thinking"):
            return False
    elif api == "responses":
        if isinstance(value.get("file_id"), str) or isinstance(value.get("file_url"), str):
            return True
    elif not REACHING_KEYS.isdisjoint(_one_spelling(name) for name in value):
        return True
    return any(reaches_out(api, each) for name, each in value.items() if name not in OF_THE_AGENT)


def _one_spelling(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)


def looked_at(api: str, body: dict[str, Any]) -> list[Any]:
    """The parts of a request in which a vendor finds contents and tools."""
    if api == "messages":
        return [
            body.get("messages"),
            body.get("system"),
            [{"type": each.get("type")} for each in body.get("tools") or []],
        ]
    if api == "responses":
        return [body.get("input")]
    return [body.get(name) for name in ("contents", "systemInstruction", "tools")]


@pytest.mark.parametrize("api", shaped)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_passes_reaches_nothing(api: str, data: st.DataObject) -> None:
    """A generated request is refused, or what is sent of it has nothing that the vendor would fetch or run."""
    body = data.draw(st.one_of(shaped[api], bodies))
    try:
        checked = check(api, {**ALLOWED[api], **body, **({} if api == "google" else {"model": "m"})})
    except (CallRefused, BadJson):
        return
    assert not any(reaches_out(api, each) for each in looked_at(api, checked.body))
    assert json.loads(serialise(checked.body)) == checked.body


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No body makes the reader fail in another way than by refusing it."""
    try:
        value = parse(data)
    except BadJson:
        return
    assert json.loads(serialise(value)) == value


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=10), st.sampled_from(["anthropic", "openai", "google"]))
def test_any_stream_is_survived(chunks: list[bytes], api: Any) -> None:
    """No answer of a vendor makes the reader fail, and pieces do not change what is read."""
    reader = UsageReader(api, stream=True)
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()
    one, many = EventReader(), EventReader()
    whole = [*one.feed(b"".join(chunks)), *one.finish()]
    assert [each for chunk in chunks for each in many.feed(chunk)] + list(many.finish()) == whole
