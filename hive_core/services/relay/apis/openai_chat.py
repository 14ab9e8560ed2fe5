"""OpenAI's Chat Completions API, which many vendors speak: fields, tools and contents that are passed on."""

from __future__ import annotations

from typing import Any

from hive_core.services.relay.apis.base import (
    CallChecker,
    CallRefused,
    CallTerms,
    CheckedCall,
    flag,
    kind_of,
    names,
    rows,
    table,
)
from hive_core.services.relay.apis.openai_responses import check_source_fields

_FIELDS = names(
    "model messages tools tool_choice functions function_call parallel_tool_calls stream stream_options max_tokens"
    " max_completion_tokens temperature top_p n stop seed presence_penalty frequency_penalty logit_bias logprobs"
    " top_logprobs response_format reasoning_effort verbosity prediction user safety_identifier prompt_cache_key"
    " prompt_cache_retention prompt_cache_options metadata store service_tier modalities web_search_options"
)
_MESSAGE = names(
    "role content name tool_calls tool_call_id refusal function_call audio reasoning reasoning_content"
    " reasoning_details annotations"
)
_PARTS = names("text refusal image_url input_audio file thinking")
_MOST_ANSWERS = 16


def check(body: dict[str, Any], terms: CallTerms) -> CheckedCall:
    """Check a request, and put in the bound of its answer, and that its usage is told. Raises `CallRefused`."""
    checker = CallChecker(terms)
    checker.fields(body, _FIELDS | terms.fields, "the request")
    checked = CheckedCall(body, checker.model(body.get("model")), used=checker.used)
    checked.fast = checker.tier(body.get("service_tier"))
    if body.get("web_search_options") is not None:
        checker.need("web", "`web_search_options`")
    if flag(body.get("store"), "store"):
        checker.need("stored", "`store`")
    elif terms.own_vendor:
        body["store"] = False
    if any(each != "text" for each in rows(body.get("modalities"), "`modalities`")):
        raise CallRefused("`modalities` other than text are not passed on", 403)
    for tool in rows(body.get("tools"), "`tools`"):
        kind = kind_of(table(tool, "a tool"), "a tool")
        if kind not in ("function", "custom"):
            raise CallRefused(f"the tool type {kind[:60]!r} is not passed on", 403)
    for message in rows(body.get("messages"), "`messages`"):
        _check_message(checker, table(message, "a message"))
    checked.stream = flag(body.get("stream"), "stream")
    if checked.stream:
        body["stream_options"] = table(body.get("stream_options") or {}, "`stream_options`") | {"include_usage": True}
    checked.max_tokens = _put_in_bound(checker, body, terms) * _answers(checker, body)
    return checked


def _put_in_bound(checker: CallChecker, body: dict[str, Any], terms: CallTerms) -> int:
    bounds = [checker.bound(body.get(name), name) for name in ("max_tokens", "max_completion_tokens")]
    given = [each for each in bounds if each is not None]
    if given:
        return max(given)
    # Models of OpenAI's that think refuse the old name; other vendors know only that one.
    body["max_completion_tokens" if terms.own_vendor else "max_tokens"] = terms.max_output_tokens
    return terms.max_output_tokens


def _answers(checker: CallChecker, body: dict[str, Any]) -> int:
    answers = checker.bound(body.get("n"), "n")
    if answers is not None and not 1 <= answers <= _MOST_ANSWERS:
        raise CallRefused(f"`n` must be from 1 to {_MOST_ANSWERS}")
    return answers or 1


def _check_message(checker: CallChecker, message: dict[str, Any]) -> None:
    checker.fields(message, _MESSAGE, "a message")
    if message.get("audio") is not None:
        checker.need("stored", "the `audio` of an earlier answer")
    content = message.get("content")
    if isinstance(content, str):
        return
    for part in rows(content, "the content of a message"):
        kind = kind_of(table(part, "a part of a message"), "a part")
        if kind not in _PARTS:
            raise CallRefused(f"a content of type {kind[:60]!r} is not passed on", 403)
        check_source_fields(checker, part)
        if kind == "file":
            file = table(part.get("file"), "a file")
            check_source_fields(checker, file)
            data = file.get("file_data")
            if isinstance(data, str) and data.startswith(("http:", "https:")):
                checker.need("urls", "a file by its address")
