"""Google's generateContent API: paths, fields, tools and contents that are passed on.

Google reads each name both as `systemInstruction` and as `system_instruction`; here they are made one, so that what was
checked is what is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hive_core.protocol.models.vendors import ModelFeature
from hive_core.services.relay.apis.base import (
    ApiRoute,
    CallChecker,
    CallRefused,
    CallTerms,
    CheckedCall,
    names,
    rows,
    table,
)

_CALL = re.compile(r"/(v1|v1beta)/models/([A-Za-z0-9][A-Za-z0-9._-]{0,199}):(\w{1,40})")
_MODEL_PATH = re.compile(r"/(v1|v1beta)/models(/[A-Za-z0-9][A-Za-z0-9._-]{0,199})?")
QUERY = {"generate": {"alt", "key"}, "count": {"alt", "key"}, "read": {"alt", "key", "pageSize", "pageToken"}}

_FIELDS = names("contents systemInstruction tools toolConfig safetySettings generationConfig model")
_COUNT_FIELDS = frozenset({"contents", "generateContentRequest"})
_MOVED = frozenset({"store", "serviceTier", "cachedContent"})
"""Fields that are checked for themselves."""
_CONFIG = names(
    "candidateCount maxOutputTokens stopSequences temperature topP topK seed presencePenalty frequencyPenalty"
    " responseLogprobs logprobs responseMimeType responseSchema responseJsonSchema responseModalities thinkingConfig"
    " mediaResolution"
)
_CONTENT = frozenset({"role", "parts"})
_PLAIN_PARTS = names(
    "text inlineData functionCall functionResponse thought thoughtSignature videoMetadata mediaResolution partMetadata"
    " mediaProcessing"
)
_FEATURE_PARTS: Mapping[str, ModelFeature] = {
    "fileData": "files",
    "executableCode": "code",
    "codeExecutionResult": "code",
    "toolCall": "web",
    "toolResponse": "web",
}
_TOOLS: Mapping[str, ModelFeature | None] = {
    "functionDeclarations": None,
    "computerUse": None,  # The agent acts, not the vendor.
    "googleSearch": "web",
    "googleSearchRetrieval": "web",
    "enterpriseWebSearch": "web",
    "googleMaps": "web",
    "urlContext": "web",
    "codeExecution": "code",
    "fileSearch": "files",
    "retrieval": "files",
    "mcpServers": "mcp",
}


def find_route(method: str, path: str) -> ApiRoute | None:
    """Return what a path stands for; None if it is not served."""
    call = _CALL.fullmatch(path) if method == "POST" else None
    if call is not None:
        model, verb = call[2], call[3]
        if verb in ("generateContent", "streamGenerateContent"):
            return ApiRoute("generate", path, model, stream=verb == "streamGenerateContent")
        if verb == "countTokens":
            return ApiRoute("count", path, model)
    if method == "GET" and _MODEL_PATH.fullmatch(path):
        return ApiRoute("read", path)
    return None


def check(body: dict[str, Any], route: ApiRoute, terms: CallTerms) -> CheckedCall:
    """Check a request, and put in the bound of its answer if it has none. Raises `CallRefused`."""
    checker = CallChecker(terms)
    model = checker.model(route.model)
    body = _one_spelling(body, "the request")
    if route.kind == "count":
        checker.fields(body, _COUNT_FIELDS, "the request")
        if body.get("generateContentRequest") is not None:
            inner = _one_spelling(table(body["generateContentRequest"], "`generateContentRequest`"), "the request")
            body["generateContentRequest"] = _check_request(checker, inner, terms, model)
        _check_contents(checker, body)
        return CheckedCall(body, model, used=checker.used)
    fast = checker.tier(body.get("serviceTier"))
    body = _check_request(checker, body, terms, model)
    bound = _put_in_bound(checker, body, terms)
    return CheckedCall(body, model, bound, stream=route.stream, fast=fast, used=checker.used)


def _check_request(checker: CallChecker, body: dict[str, Any], terms: CallTerms, model: str) -> dict[str, Any]:
    checker.fields(body, _FIELDS | _MOVED | terms.fields, "the request")
    if body.get("model") not in (None, model, f"models/{model}"):
        raise CallRefused("`model` is another one than that of the path")
    if body.get("cachedContent") is not None:
        checker.need("stored", "`cachedContent`")
    if body.get("store") not in (None, False):
        checker.need("stored", "`store`")
    tools = body.get("tools")
    if tools is not None:
        # A single one may stand for a list of one.
        body["tools"] = [
            _check_tool(checker, tool) for tool in ([tools] if isinstance(tools, dict) else rows(tools, "`tools`"))
        ]
    _check_contents(checker, body)
    return body


def _check_contents(checker: CallChecker, body: dict[str, Any]) -> None:
    for name in ("contents", "systemInstruction"):
        value = body.get(name)
        if value is None or (name == "systemInstruction" and isinstance(value, str)):
            continue
        given = [value] if isinstance(value, dict) else rows(value, f"`{name}`")
        checked = [_check_content(checker, content) for content in given]
        body[name] = checked[0] if isinstance(value, dict) else checked


def _check_content(checker: CallChecker, value: Any) -> dict[str, Any]:
    content = _one_spelling(table(value, "a content"), "a content")
    checker.fields(content, _CONTENT, "a content")
    parts = content.get("parts")
    if parts is not None:
        given = [parts] if isinstance(parts, dict) else rows(parts, "`parts`")
        content["parts"] = [_check_part(checker, part) for part in given]
    return content


def _check_part(checker: CallChecker, value: Any) -> dict[str, Any]:
    part = _one_spelling(table(value, "a part"), "a part")
    for name in part:
        if name in _FEATURE_PARTS:
            checker.need(_FEATURE_PARTS[name], f"a part with `{name}`")
        elif name not in _PLAIN_PARTS:
            raise CallRefused(f"a part with {name[:60]!r} is not passed on", 403)
    response = part.get("functionResponse")
    if response is not None:
        response = _one_spelling(table(response, "a `functionResponse`"), "a `functionResponse`")
        if response.get("parts") is not None:
            response["parts"] = [_check_part(checker, each) for each in rows(response["parts"], "`parts`")]
        part["functionResponse"] = response
    return part


def _check_tool(checker: CallChecker, value: Any) -> dict[str, Any]:
    tool = _one_spelling(table(value, "a tool"), "a tool")
    for name in tool:
        if name not in _TOOLS:
            raise CallRefused(f"the tool {name[:60]!r} is not passed on", 403)
        feature = _TOOLS[name]
        if feature is not None:
            checker.need(feature, f"the tool `{name}`")
    return tool


def _put_in_bound(checker: CallChecker, body: dict[str, Any], terms: CallTerms) -> int:
    config = _one_spelling(table(body.get("generationConfig") or {}, "`generationConfig`"), "`generationConfig`")
    checker.fields(config, _CONFIG, "`generationConfig`")
    if any(str(each).upper() != "TEXT" for each in rows(config.get("responseModalities"), "`responseModalities`")):
        checker.need("images", "`responseModalities` other than TEXT")
    if checker.bound(config.get("candidateCount"), "candidateCount") not in (None, 1):
        raise CallRefused("`candidateCount` must be 1")
    bound = checker.bound(config.get("maxOutputTokens"), "maxOutputTokens")
    config["maxOutputTokens"] = bound or terms.max_output_tokens
    body["generationConfig"] = config
    return int(config["maxOutputTokens"])


def _one_spelling(value: dict[str, Any], place: str) -> dict[str, Any]:
    """Return an object with the names of its keys in the first of the two spellings. Raises for one that has both."""
    found: dict[str, Any] = {}
    for name, each in value.items():
        one = re.sub(r"_+([a-zA-Z0-9])", lambda letter: letter[1].upper(), name)
        if one in found:
            raise CallRefused(f"{place} has {one[:60]!r} in two spellings")
        found[one] = each
    return found
