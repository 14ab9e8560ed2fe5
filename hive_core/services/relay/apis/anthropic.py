"""Anthropic's Messages API: paths, fields, tools and contents that are passed on."""

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
    flag,
    kind_of,
    names,
    rows,
    table,
)

_MODEL_PATH = re.compile(r"/v1/models(/[A-Za-z0-9][A-Za-z0-9._:@-]{0,199})?")
QUERY = {"generate": {"beta"}, "count": {"beta"}, "read": {"beta", "limit", "after_id", "before_id"}}

_FIELDS = names(
    "model messages system tools tool_choice metadata max_tokens stop_sequences stream temperature top_p top_k thinking"
    " output_config output_format context_management compaction cache_control diagnostics service_tier speed"
    " mcp_servers container"
)
_COUNT_FIELDS = _FIELDS - {"max_tokens", "stream", "container"}
_CUSTOM_TOOL = names(
    "type name description input_schema cache_control strict eager_input_streaming defer_loading input_examples"
    " allowed_callers"
)
_CLIENT_TOOLS = re.compile(r"(?:bash|text_editor|computer|memory)_\d{8}|tool_search_tool_(?:regex|bm25)(?:_\d{8})?")
"""Tools that the agent runs itself, and the search among the request's own tools."""
_SERVER_TOOLS: tuple[tuple[re.Pattern[str], ModelFeature], ...] = (
    (re.compile(r"web_(?:search|fetch)_\d{8}"), "web"),
    (re.compile(r"code_execution_\d{8}"), "code"),
    (re.compile(r"mcp_toolset(?:_\d{8})?"), "mcp"),
)
_PLAIN_BLOCKS = names("text thinking redacted_thinking tool_use compaction tool_reference tool_search_tool_result")
_FEATURE_BLOCKS: Mapping[str, ModelFeature] = {
    "web_search_tool_result": "web",
    "web_fetch_tool_result": "web",
    "code_execution_tool_result": "code",
    "bash_code_execution_tool_result": "code",
    "text_editor_code_execution_tool_result": "code",
    "mcp_tool_use": "mcp",
    "mcp_tool_result": "mcp",
    "container_upload": "files",
}
_BLOCK_FIELDS: Mapping[str, frozenset[str]] = {
    "image": names("type source cache_control"),
    "document": names("type source title context citations cache_control"),
    "tool_result": names("type tool_use_id content is_error cache_control"),
    "search_result": names("type source title content citations cache_control"),
}
_SEARCH_AMONG_TOOLS = ("tool_search_tool_regex", "tool_search_tool_bm25")


def find_route(method: str, path: str) -> ApiRoute | None:
    """Return what a path stands for; None if it is not served."""
    if method == "POST" and path == "/v1/messages":
        return ApiRoute("generate", path)
    if method == "POST" and path == "/v1/messages/count_tokens":
        return ApiRoute("count", path)
    if method == "GET" and _MODEL_PATH.fullmatch(path):
        return ApiRoute("read", path)
    return None


def check(body: dict[str, Any], route: ApiRoute, terms: CallTerms) -> CheckedCall:
    """Check a request, and put in the bound of its answer if it has none. Raises `CallRefused`."""
    checker = CallChecker(terms)
    known = _FIELDS if route.kind == "generate" else _COUNT_FIELDS
    checker.fields(body, known | terms.fields, "the request")
    model = checker.model(body.get("model"))
    if body.get("mcp_servers"):
        checker.need("mcp", "`mcp_servers`")
    if body.get("container") is not None:
        checker.need("code", "`container`")
    checker.fields(table(body.get("metadata") or {}, "`metadata`"), {"user_id"}, "`metadata`")
    fast = checker.tier(body.get("service_tier")) | checker.tier(body.get("speed"))
    for tool in rows(body.get("tools"), "`tools`"):
        _check_tool(checker, table(tool, "a tool"))
    if not isinstance(body.get("system"), str):
        _check_blocks(checker, body.get("system"), "`system`", only_text=True)
    for message in rows(body.get("messages"), "`messages`"):
        checker.fields(table(message, "a message"), {"role", "content"}, "a message")
        if message.get("role") not in ("user", "assistant", "system"):
            raise CallRefused("the `role` of a message must be user, assistant or system")
        if not isinstance(message.get("content"), str):
            _check_blocks(checker, message.get("content"), "a message")
    checked = CheckedCall(body, model, fast=fast, used=checker.used)
    if route.kind == "generate":
        checked.stream = flag(body.get("stream"), "stream")
        bound = checker.bound(body.get("max_tokens"), "max_tokens")
        checked.max_tokens = terms.max_output_tokens if bound is None else bound
        body["max_tokens"] = checked.max_tokens
    return checked


def _check_tool(checker: CallChecker, tool: dict[str, Any]) -> None:
    kind = kind_of(tool, "a tool")
    for pattern, feature in _SERVER_TOOLS:
        if pattern.fullmatch(kind):
            checker.need(feature, f"the tool `{kind}`")
            return
    if kind in ("", "custom"):
        checker.fields(tool, _CUSTOM_TOOL, "a tool")
    elif _CLIENT_TOOLS.fullmatch(kind) is None:
        raise CallRefused(f"the tool type {kind[:60]!r} is not passed on", 403)
    if any(caller != "direct" for caller in rows(tool.get("allowed_callers"), "`allowed_callers`")):
        checker.need("code", "a tool that code of the vendor's calls")


def _check_blocks(checker: CallChecker, blocks: Any, place: str, *, only_text: bool = False) -> None:
    for block in rows(blocks, f"the content of {place}"):
        kind = kind_of(table(block, "a block"), "a block")
        if only_text and kind != "text":
            raise CallRefused(f"{place} may have blocks of text only")
        if kind in _BLOCK_FIELDS:
            checker.fields(block, _BLOCK_FIELDS[kind], f"a block of type `{kind}`")
        match kind:
            case "image" | "document":
                _check_source(checker, table(block.get("source"), "the source of a block"), kind)
            case "tool_result" | "search_result":
                if not isinstance(block.get("content"), str):
                    _check_blocks(checker, block.get("content"), f"a {kind}")
            case "server_tool_use":
                if block.get("name") not in _SEARCH_AMONG_TOOLS:
                    checker.need("web" if "web" in str(block.get("name")) else "code", "a call of a vendor's tool")
            case _ if kind in _FEATURE_BLOCKS:
                checker.need(_FEATURE_BLOCKS[kind], f"a block of type `{kind}`")
            case _ if kind not in _PLAIN_BLOCKS:
                raise CallRefused(f"a block of type {kind[:60]!r} is not passed on", 403)


def _check_source(checker: CallChecker, source: dict[str, Any], place: str) -> None:
    match source.get("type"):
        case "base64" | "text":
            checker.fields(source, {"type", "media_type", "data"}, f"the source of a block of type `{place}`")
        case "content":
            if not isinstance(source.get("content"), str):
                _check_blocks(checker, source.get("content"), "a source")
        case "url":
            checker.need("urls", f"a source of type `url` of a block of type `{place}`")
        case "file":
            checker.need("files", f"a source of type `file` of a block of type `{place}`")
        case other:
            raise CallRefused(f"a source of type {str(other)[:60]!r} is not passed on", 403)
