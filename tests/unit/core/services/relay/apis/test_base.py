"""What every API refuses, whatever way is tried around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest

from hive_core.protocol.models.providers import UNBOUNDED_FEATURES
from hive_core.protocol.models.vendors import ModelFeature
from hive_core.services.relay.apis import anthropic, google, openai
from hive_core.services.relay.apis.base import CallRefused
from hive_core.services.relay.apis.strict_json import BadJson
from tests.unit.core.services.relay.apis.api_bodies import ALLOWED, check, with_change

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
FEATURES: tuple[ModelFeature, ...] = get_args(ModelFeature)


def message(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def item(value: dict[str, Any]) -> dict[str, Any]:
    return {"input": [value]}


def part(value: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [value]}]}


def source(kind: str, **more: str) -> dict[str, Any]:
    return {"type": kind, **more}


def cases(
    api: str, make: Callable[[Any], dict[str, Any]], *found: tuple[Any, ModelFeature | None]
) -> list[tuple[str, dict[str, Any], ModelFeature | None]]:
    """Requests that differ in one value, each with the feature that allows it."""
    return [(api, make(value), feature) for value, feature in found]


FORBIDDEN: list[tuple[str, dict[str, Any], ModelFeature | None]] = [
    # Anthropic: tools of the vendor's, sources, and what is kept there. None: no feature allows it.
    *cases(
        "messages",
        lambda kind: {"tools": [{"type": kind, "name": "x"}]},
        ("web_search_20250305", "web"),
        ("web_search_20260318", "web"),
        ("web_fetch_20250910", "web"),
        ("code_execution_20250522", "code"),
        ("code_execution_20260521", "code"),
        ("mcp_toolset", "mcp"),
        ("advisor_20260301", None),
        ("browser_toolset_20260801", None),
        ("made_up_20990101", None),
        ("bash_20250124x", None),
        ("BASH_20250124", None),
    ),
    (
        "messages",
        {"tools": [{"name": "x", "input_schema": {}, "allowed_callers": ["code_execution_20260120"]}]},
        "code",
    ),
    ("messages", {"tools": [{"name": "x", "input_schema": {}, "url": "http://example.com"}]}, None),
    ("messages", {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}, "mcp"),
    ("messages", {"container": "c_1"}, "code"),
    ("messages", {"speed": "fast"}, "priority"),
    ("messages", {"service_tier": "priority"}, "priority"),
    ("messages", {"fallbacks": [{"model": "other"}]}, None),
    ("messages", {"inference_geo": "us"}, None),
    ("messages", {"thread": {"id": "x"}}, None),
    ("messages", {"betas": ["mcp-client-2025-11-20"]}, None),
    ("messages", {"Model": "m"}, None),
    ("messages", {"metadata": {"user_id": "u", "x": 1}}, None),
    ("messages", message({"type": "image", "source": source("url", url="http://169.254.169.254/")}), "urls"),
    ("messages", message({"type": "image", "source": source("file", file_id="f")}), "files"),
    ("messages", message({"type": "document", "source": source("url", url="http://10.0.0.1/")}), "urls"),
    ("messages", message({"type": "document", "source": source("file", file_id="f")}), "files"),
    ("messages", message({"type": "document", "source": source("made_up")}), None),
    ("messages", message({"type": "image", "source": source("base64", data="", url="http://x/")}), None),
    ("messages", message({"type": "container_upload", "file_id": "f"}), "files"),
    ("messages", message({"type": "mcp_tool_use", "id": "i", "name": "n", "server_name": "s"}), "mcp"),
    ("messages", message({"type": "server_tool_use", "id": "i", "name": "web_search", "input": {}}), "web"),
    ("messages", message({"type": "server_tool_use", "id": "i", "name": "bash_code_execution"}), "code"),
    ("messages", message({"type": "tool_addition", "tool": {"type": "web_search_20250305"}}), None),
    ("messages", {"system": [{"type": "image", "source": source("url", url="http://x/")}]}, None),
    (
        "messages",
        message({"type": "tool_result", "content": [{"type": "image", "source": source("url", url="http://x/")}]}),
        "urls",
    ),
    (
        "messages",
        message({"type": "document", "source": {"type": "content", "content": [{**IMAGE, "source": source("url")}]}}),
        "urls",
    ),
    (
        "messages",
        message(
            {
                "type": "tool_result",
                "content": [
                    {
                        "type": "document",
                        "source": {
                            "type": "content",
                            "content": [{"type": "document", "source": source("file", file_id="f")}],
                        },
                    }
                ],
            }
        ),
        "files",
    ),
    ("count_tokens", {"tools": [{"type": "web_search_20250305", "name": "x"}]}, "web"),
    ("count_tokens", message({"type": "image", "source": source("url", url="http://x/")}), "urls"),
    ("count_tokens", {"stream": True}, None),
    # OpenAI's Responses.
    *cases(
        "responses",
        lambda kind: {"tools": [{"type": kind}]},
        ("web_search", "web"),
        ("web_search_preview", "web"),
        ("web_search_preview_2025_03_11", "web"),
        ("file_search", "files"),
        ("code_interpreter", "code"),
        ("programmatic_tool_calling", "code"),
        ("image_generation", "images"),
        ("mcp", "mcp"),
        ("shell", "code"),
        ("made_up", None),
        ("", None),
    ),
    ("responses", {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "code"),
    ("responses", {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]}, "mcp"),
    (
        "responses",
        {"tools": [{"type": "namespace", "tools": [{"type": "namespace", "tools": [{"type": "web_search"}]}]}]},
        "web",
    ),
    ("responses", {"tools": [{"type": "function", "name": "f", "allowed_callers": ["programmatic"]}]}, "code"),
    ("responses", {"background": True}, None),
    ("responses", {"store": True}, "stored"),
    ("responses", {"previous_response_id": "r"}, "stored"),
    ("responses", {"conversation": "c"}, "stored"),
    ("responses", {"prompt": {"id": "p"}}, None),
    ("responses", {"service_tier": "priority"}, "priority"),
    ("responses", {"service_tier": "fast"}, "priority"),
    ("responses", {"service_tier": "made_up"}, None),
    ("responses", {"access_programs": {}}, None),
    ("responses", item({"type": "item_reference", "id": "i"}), "stored"),
    ("responses", item({"id": "i"}), "stored"),
    ("responses", item({"type": "mcp_approval_response", "approve": True}), "mcp"),
    ("responses", item({"type": "program", "code": "x"}), "code"),
    ("responses", item({"type": "made_up"}), None),
    ("responses", item({"type": "configuration_update", "tools": []}), None),
    ("responses", item({"type": "additional_tools", "tools": [{"type": "mcp"}]}), "mcp"),
    ("responses", item({"type": "tool_search_output", "tools": [{"type": "web_search"}]}), "web"),
    *cases(
        "responses",
        lambda content: item({"role": "user", "content": [content]}),
        ({"type": "input_image", "image_url": "https://example.com/a.png"}, "urls"),
        ({"type": "input_image", "image_url": "//example.com/a.png"}, "urls"),
        ({"type": "input_image", "image_url": " data:image/png;base64,AA"}, "urls"),
        ({"type": "input_image", "image_url": {"url": "http://x/"}}, "urls"),
        ({"type": "input_image", "file_id": "f"}, "files"),
        ({"type": "input_file", "file_url": "https://example.com/a.pdf"}, "urls"),
        ({"type": "input_file", "file_id": "f"}, "files"),
        ({"type": "made_up"}, None),
    ),
    (
        "responses",
        item({"type": "function_call_output", "output": [{"type": "input_image", "image_url": "http://x/"}]}),
        "urls",
    ),
    ("responses", item({"type": "computer_call_output", "output": {"image_url": "http://x/"}}), "urls"),
    ("responses", item({"type": "computer_call_output", "output": {"file_id": "f"}}), "files"),
    # Chat Completions.
    ("chat", {"tools": [{"type": "web_search"}]}, None),
    ("chat", {"web_search_options": {}}, "web"),
    ("chat", {"plugins": [{"id": "web"}]}, None),
    ("chat", {"models": ["other"]}, None),
    ("chat", {"store": True}, "stored"),
    ("chat", {"modalities": ["text", "audio"]}, None),
    ("chat", {"n": 0}, None),
    ("chat", {"n": 17}, None),
    ("chat", {"service_tier": "priority"}, "priority"),
    ("chat", {"model": "gpt-4o-search-preview"}, "web"),
    ("chat", {"model": "some/model:online"}, "web"),
    ("chat", message({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}), "urls"),
    ("chat", message({"type": "image_url", "image_url": "http://x/"}), "urls"),
    ("chat", message({"type": "file", "file": {"file_id": "f"}}), "files"),
    ("chat", message({"type": "file", "file": {"file_data": "https://example.com/a.pdf"}}), "urls"),
    ("chat", message({"type": "made_up"}), None),
    ("chat", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "stored"),
    ("chat", {"messages": [{"role": "user", "content": "x", "made_up": 1}]}, None),
    # Google.
    *cases(
        "google",
        lambda kind: {"tools": [{kind: {}}]},
        ("googleSearch", "web"),
        ("google_search", "web"),
        ("googleSearchRetrieval", "web"),
        ("google_search_retrieval", "web"),
        ("googleMaps", "web"),
        ("urlContext", "web"),
        ("url_context", "web"),
        ("codeExecution", "code"),
        ("code_execution", "code"),
        ("fileSearch", "files"),
        ("retrieval", "files"),
        ("mcpServers", "mcp"),
        ("mcp_servers", "mcp"),
        ("madeUp", None),
    ),
    ("google", {"tools": {"google_search": {}}}, "web"),
    ("google", {"cachedContent": "cachedContents/x"}, "stored"),
    ("google", {"cached_content": "cachedContents/x"}, "stored"),
    ("google", {"store": True}, "stored"),
    ("google", {"model": "models/other"}, None),
    ("google", {"labels": {}}, None),
    ("google", {"serviceTier": "priority"}, "priority"),
    ("google", part({"fileData": {"fileUri": "https://example.com"}}), "files"),
    ("google", part({"file_data": {"file_uri": "gs://x"}}), "files"),
    ("google", part({"executableCode": {"code": "x"}}), "code"),
    ("google", part({"code_execution_result": {}}), "code"),
    ("google", part({"functionResponse": {"name": "f", "parts": [{"file_data": {"file_uri": "x"}}]}}), "files"),
    ("google", {"contents": {"parts": {"file_data": {"file_uri": "x"}}}}, "files"),
    ("google", {"system_instruction": {"parts": [{"fileData": {"fileUri": "x"}}]}}, "files"),
    ("google", {"generationConfig": {"responseModalities": ["IMAGE"]}}, "images"),
    ("google", {"generation_config": {"response_modalities": ["AUDIO"]}}, "images"),
    ("google", {"generationConfig": {"candidateCount": 2}}, None),
    ("google", {"generationConfig": {"speechConfig": {}}}, None),
    ("google_count", part({"fileData": {"fileUri": "x"}}), "files"),
    ("google_count", {"generateContentRequest": {"tools": [{"googleSearch": {}}]}}, "web"),
    ("google_count", {"generate_content_request": {"contents": [{"parts": [{"file_data": {}}]}]}}, "files"),
]


@pytest.mark.parametrize("api", ALLOWED)
def test_allowed_requests_pass(api: str) -> None:
    """The requests that the other tests change are allowed as they are."""
    check(api, ALLOWED[api])


@pytest.mark.parametrize(("api", "change", "feature"), FORBIDDEN)
def test_what_reaches_out_is_refused(api: str, change: dict[str, Any], feature: ModelFeature | None) -> None:
    """Each forbidden field, tool and content is refused without its feature, even with all others, and passes with it.

    What no feature allows is refused with all of them.
    """
    body = with_change(api, change)
    if api == "google" and "generation_config" in change:
        del body["generationConfig"]
    others = [each for each in FEATURES if each != feature]
    with pytest.raises(CallRefused):
        check(api, body)
    with pytest.raises(CallRefused):
        check(api, body, *others)
    if feature is not None:
        checked = check(api, body, *FEATURES)
        assert feature in checked.used
        assert checked.unbounded == (not UNBOUNDED_FEATURES.isdisjoint(checked.used))


def twice(text: str) -> bytes:
    """The request with its first key twice: a reader that takes the last one, and one that takes the first, differ."""
    return (
        text.replace("{", '{"model": "other", ', 1).encode()
        if '"model"' in text
        else b'{"contents": [], ' + text[1:].encode()
    )


def spelled_twice(text: str) -> bytes:
    """The same with the second key written with an escape."""
    return (
        twice(text)
        .replace(b'"model": "other"', b'"mod\\u0065l": "other"')
        .replace(b'{"contents": [],', b'{"\\u0063ontents": [],')
    )


def deep_twice(text: str) -> bytes:
    """A key twice, deep within a value that is passed on as it is."""
    return (text[:-1] + ', "tools": [{"name": "x", "input_schema": {"a": {"b": 1, "b": 2}}}]}').encode()


WRONG_TEXTS: dict[str, Callable[[str], bytes]] = {
    "key twice": twice,
    "key twice by an escape": spelled_twice,
    "key twice deep within": deep_twice,
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "Latin-1": lambda text: text.replace("Hi", "H\xe4").encode("latin-1"),
    "overlong UTF-8": lambda text: text.encode().replace(b"Hi", b"\xc0\xaf"),
    "half of a character": lambda text: text.encode().replace(b"Hi", b"\xed\xa0\x80"),
    "NUL at the end": lambda text: text.encode() + b"\0",
    "two documents": lambda text: (text + text).encode(),
    "a comment": lambda text: ("/* x */" + text).encode(),
    "a comma at the end": lambda text: (text[:-1] + ",}").encode(),
    "single quotes": lambda text: text.replace('"', "'").encode(),
    "NaN": lambda text: (text[:-1] + ', "temperature": NaN}').encode(),
    "Infinity": lambda text: (text[:-1] + ', "temperature": -Infinity}').encode(),
    "a number of too many digits": lambda text: (text[:-1] + f', "temperature": {"9" * 5_000}}}').encode(),
    "nested 129 deep": lambda text: (text[:-1] + f', "tools": {"[" * 129}{"]" * 129}}}').encode(),
    "nested 100,000 deep": lambda text: (text[:-1] + f', "tools": {"[" * 100_000}{"]" * 100_000}}}').encode(),
    "objects 100,000 deep": lambda text: (text[:-1] + ', "tools": ' + '{"a":' * 100_000 + "1" + "}" * 100_001).encode(),
    "a list": lambda text: f"[{text}]".encode(),
    "nothing": lambda text: b"",
}


@pytest.mark.parametrize("api", ALLOWED)
@pytest.mark.parametrize("way", WRONG_TEXTS)
def test_texts_that_readers_understand_differently_are_refused(api: str, way: str) -> None:
    """A body that another reader could understand in another way, or not at all, is refused."""
    text = WRONG_TEXTS[way](json.dumps(ALLOWED[api]))
    with pytest.raises(BadJson):
        check(api, text)


@pytest.mark.parametrize("api", ["messages", "responses", "chat", "google"])
def test_a_call_without_a_bound_gets_one(api: str) -> None:
    """What the model may write is bounded in every request that is sent on, and is what is reserved."""
    body = {name: each for name, each in ALLOWED[api].items() if name not in ("max_tokens", "max_output_tokens")}
    body.pop("generationConfig", None)
    checked = check(api, body, max_output_tokens=777)
    assert checked.max_tokens == 777
    assert "777" in json.dumps(checked.body)
    assert check(api, ALLOWED[api], max_output_tokens=777).max_tokens == 5


@pytest.mark.parametrize("bound", [-1, 1.5, "5", True, 10_000_000, [5]])
@pytest.mark.parametrize("api", ["messages", "responses", "chat", "google"])
def test_bounds_that_are_none_are_refused(api: str, bound: object) -> None:
    """A bound is a whole number of a sensible size."""
    changes: dict[str, dict[str, Any]] = {
        "messages": {"max_tokens": bound},
        "responses": {"max_output_tokens": bound},
        "chat": {"max_completion_tokens": bound},
        "google": {"generationConfig": {"max_output_tokens": bound}},
    }
    with pytest.raises(CallRefused):
        check(api, with_change(api, changes[api]))


@pytest.mark.parametrize("api", ["messages", "responses", "chat"])
@pytest.mark.parametrize("model", ["other", "M", "", None, 5, ["m"], {"m": 1}, "n-\n", "n-" + "x" * 199])
def test_other_models_are_refused(api: str, model: object) -> None:
    """Only models that match the agent's patterns pass, and only as texts."""
    with pytest.raises(CallRefused):
        check(api, with_change(api, {"model": model}), models=("m", "n-*"))
    assert check(api, with_change(api, {"model": "n-1"}), models=("m", "n-*")).model == "n-1"


@pytest.mark.parametrize(
    ("api", "field"),
    [
        ("messages", "tools"),
        ("messages", "messages"),
        ("responses", "tools"),
        ("chat", "messages"),
        ("google", "contents"),
    ],
)
@pytest.mark.parametrize("value", [{"0": {"type": "web_search"}}, "text", 5, [5], ["x"], [[]], [None]])
def test_values_of_other_types_are_refused(api: str, field: str, value: object) -> None:
    """Lists and objects that are checked must be such: nothing slips past as another type."""
    with pytest.raises(CallRefused):
        check(api, with_change(api, {field: value}))


def test_all_answers_of_a_chat_are_reserved() -> None:
    """Several answers at once cost as many times the bound."""
    assert check("chat", with_change("chat", {"n": 4})).max_tokens == 20


def test_nothing_is_stored_and_usage_is_told() -> None:
    """What the vendor would do by default is switched off, and its figures are asked for."""
    assert check("responses", ALLOWED["responses"]).body["store"] is False
    assert check("chat", ALLOWED["chat"]).body["store"] is False
    body = check("chat", with_change("chat", {"stream": True, "stream_options": {"include_usage": False}})).body
    assert body["stream_options"] == {"include_usage": True}


def test_fields_of_other_vendors_can_be_allowed() -> None:
    """A provider may have further fields of its own."""
    body = with_change("chat", {"provider": {"order": ["x"]}})
    assert check("chat", body, fields=frozenset({"provider"})).body["provider"] == {"order": ["x"]}


def test_both_spellings_of_google_are_one() -> None:
    """What is sent to Google has one spelling, and a request with both is refused."""
    body = {"contents": [{"parts": [{"inline_data": {"mime_type": "x"}}]}], "generation_config": {"top_k": 1}}
    sent = check("google", body).body
    assert sent["contents"] == [{"parts": [{"inlineData": {"mime_type": "x"}}]}]
    assert sent["generationConfig"] == {"topK": 1, "maxOutputTokens": 32_000}
    both: list[dict[str, Any]] = [
        {"system_instruction": {}, "systemInstruction": {}},
        {"tools": [{"urlContext": {}, "url_context": {}}]},
    ]
    for wrong in both:
        with pytest.raises(CallRefused):
            check("google", with_change("google", wrong), *FEATURES)


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [{"name": "Bash", "description": "d", "input_schema": {"properties": {"source": {"type": "url"}}}}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "computer_20251124", "name": "computer"}]},
        {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "metadata": {"user_id": "u"}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        message(IMAGE, {"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}),
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"type": "url", "x": [1]}}]}]},
    ],
)
def test_what_agents_need_of_messages_passes(change: dict[str, Any]) -> None:
    """Tools of the agent, caching, thinking, images and results of tools are passed on as they came."""
    body = with_change("messages", change)
    assert check("messages", body).body == body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages/batches"),
        ("POST", "/v1/messages/"),
        ("GET", "/v1/messages"),
        ("POST", "//v1/messages"),
        ("POST", "/v1/../v1/messages"),
        ("POST", "/v1/messages%2f..%2ffiles"),
        ("POST", "/v1/files"),
        ("POST", "/v1/complete"),
        ("GET", "/v1/models/../files"),
        ("GET", "/v1/models/a/b"),
        ("GET", "/v1/organizations/usage"),
        ("POST", "/v1/responses/compact"),
        ("GET", "/v1/responses/r_1"),
        ("DELETE", "/v1/responses/r_1"),
        ("POST", "/v1/responses/r_1/cancel"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/conversations"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/images/generations"),
        ("POST", "/v1beta/models/m:batchGenerateContent"),
        ("POST", "/v1beta/models/m:predictLongRunning"),
        ("POST", "/v1beta/models/../m:generateContent"),
        ("POST", "/v1beta/tunedModels/m:generateContent"),
        ("POST", "/v1beta/cachedContents"),
        ("POST", "/upload/v1beta/files"),
        ("POST", "/v1beta/interactions"),
        ("POST", "/v1alpha/models/m:generateContent"),
    ],
)
def test_other_paths_are_not_served(method: str, path: str) -> None:
    """Batches, files, stored answers and every unknown path are not there, in any of the APIs but where they belong."""

    found = [rules.find_route(method, path) for rules in (anthropic, openai, google)]
    assert [each for each in found if each is not None and each.kind != "read"] == []
    assert all(each is None or ".." not in each.path for each in found)
