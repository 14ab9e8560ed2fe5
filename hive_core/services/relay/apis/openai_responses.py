"""OpenAI's Responses API: fields, tools and contents that are passed on."""

from __future__ import annotations

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

_FIELDS = names(
    "model input instructions tools tool_choice parallel_tool_calls max_tool_calls reasoning text stream stream_options"
    " store include max_output_tokens temperature top_p top_logprobs truncation metadata client_metadata user"
    " safety_identifier prompt_cache_key prompt_cache_retention prompt_cache_options context_management service_tier"
    " previous_response_id conversation background"
)
_COUNT_FIELDS = names("model input instructions tools tool_choice parallel_tool_calls reasoning text truncation")
_CLIENT_TOOLS = names("function custom local_shell apply_patch computer computer_use_preview")
"""Tools that the agent runs itself."""
_SERVER_TOOLS: Mapping[str, ModelFeature] = {
    "web_search": "web",
    "web_search_2025_08_26": "web",
    "web_search_preview": "web",
    "web_search_preview_2025_03_11": "web",
    "file_search": "files",
    "code_interpreter": "code",
    "programmatic_tool_calling": "code",
    "image_generation": "images",
    "mcp": "mcp",
}
_PLAIN_ITEMS = names(
    "message function_call function_call_output custom_tool_call custom_tool_call_output reasoning local_shell_call"
    " local_shell_call_output shell_call shell_call_output apply_patch_call apply_patch_call_output computer_call"
    " computer_call_output compaction compaction_summary compaction_trigger context_compaction agent_message"
    " configuration_update tool_search_call tool_search_output additional_tools"
)
_FEATURE_ITEMS: Mapping[str, ModelFeature] = {
    "web_search_call": "web",
    "file_search_call": "files",
    "code_interpreter_call": "code",
    "program": "code",
    "program_output": "code",
    "image_generation_call": "images",
    "mcp_list_tools": "mcp",
    "mcp_approval_request": "mcp",
    "mcp_approval_response": "mcp",
    "mcp_call": "mcp",
    "item_reference": "stored",
}
_PARTS = names(
    "input_text output_text text refusal summary_text reasoning_text input_image input_file input_audio"
    " computer_screenshot encrypted_content"
)
_SOURCES: Mapping[str, ModelFeature] = {"file_id": "files", "file_url": "urls"}


def check(body: dict[str, Any], route: ApiRoute, terms: CallTerms) -> CheckedCall:
    """Check a request, and put in the bound of its answer, and that nothing is stored. Raises `CallRefused`."""
    checker = CallChecker(terms)
    known = _FIELDS if route.kind == "generate" else _COUNT_FIELDS
    checker.fields(body, known | terms.fields, "the request")
    model = checker.model(body.get("model"))
    if flag(body.get("background"), "background"):
        raise CallRefused("`background` is not passed on: nobody would see what the call costs", 403)
    for name in ("previous_response_id", "conversation"):
        if body.get(name) is not None:
            checker.need("stored", f"`{name}`")
    for tool in rows(body.get("tools"), "`tools`"):
        _check_tool(checker, table(tool, "a tool"))
    if not isinstance(body.get("input"), str):
        for item in rows(body.get("input"), "`input`"):
            _check_item(checker, table(item, "an item of `input`"))
    checked = CheckedCall(body, model, fast=checker.tier(body.get("service_tier")), used=checker.used)
    if route.kind == "generate":
        if flag(body.get("store"), "store"):
            checker.need("stored", "`store`")
        else:
            body["store"] = False
        checked.stream = flag(body.get("stream"), "stream")
        bound = checker.bound(body.get("max_output_tokens"), "max_output_tokens")
        checked.max_tokens = terms.max_output_tokens if bound is None else bound
        body["max_output_tokens"] = checked.max_tokens
    return checked


def _check_tool(checker: CallChecker, tool: dict[str, Any]) -> None:
    kind = kind_of(tool, "a tool")
    if kind in _SERVER_TOOLS:
        checker.need(_SERVER_TOOLS[kind], f"the tool `{kind}`")
    elif kind == "namespace":
        for inner in rows(tool.get("tools"), "the tools of a namespace"):
            _check_tool(checker, table(inner, "a tool"))
    elif kind == "shell":
        environment = tool.get("environment")
        if not isinstance(environment, dict) or environment.get("type") != "local":
            checker.need("code", "a shell that is not the agent's own")
    elif kind == "tool_search":
        if tool.get("execution") not in (None, "client", "server"):
            raise CallRefused("`execution` of a tool must be client or server")
    elif kind not in _CLIENT_TOOLS:
        raise CallRefused(f"the tool type {kind[:60]!r} is not passed on", 403)
    if any(caller != "direct" for caller in rows(tool.get("allowed_callers"), "`allowed_callers`")):
        checker.need("code", "a tool that code of the vendor's calls")


def _check_item(checker: CallChecker, item: dict[str, Any]) -> None:
    kind = kind_of(item, "an item") or ("message" if "role" in item else "item_reference")
    if kind in _FEATURE_ITEMS:
        checker.need(_FEATURE_ITEMS[kind], f"an item of type `{kind}`")
    elif kind not in _PLAIN_ITEMS:
        raise CallRefused(f"an item of type {kind[:60]!r} is not passed on", 403)
    if kind == "configuration_update":
        checker.fields(item, names("type id reasoning text"), "a `configuration_update`")
    if kind in ("tool_search_output", "additional_tools"):
        for tool in rows(item.get("tools"), "the tools of an item"):
            _check_tool(checker, table(tool, "a tool"))
        item = {name: value for name, value in item.items() if name != "tools"}
    if kind == "message":
        _check_parts(item.get("content"))
    elif kind in ("function_call_output", "custom_tool_call_output"):
        _check_parts(item.get("output"))
    _check_sources(checker, item)


def _check_parts(parts: Any) -> None:
    """Check the types of the parts of a content; a text is one as it is."""
    if isinstance(parts, str):
        return
    for part in rows(parts, "the content of an item"):
        kind = kind_of(table(part, "a part of a content"), "a part")
        if kind not in _PARTS:
            raise CallRefused(f"a content of type {kind[:60]!r} is not passed on", 403)


def _check_sources(checker: CallChecker, value: Any) -> None:
    """Find what the vendor would fetch, or has stored, however deep it is."""
    level: list[Any] = [value]
    while level:
        below: list[Any] = []
        for each in level:
            if isinstance(each, list):
                below += each
            elif isinstance(each, dict):
                check_source_fields(checker, each)
                below += each.values()
        level = [each for each in below if isinstance(each, dict | list)]


def check_source_fields(checker: CallChecker, part: dict[str, Any]) -> None:
    """Check one object for files and addresses as sources."""
    for name, feature in _SOURCES.items():
        if isinstance(part.get(name), str):
            checker.need(feature, f"`{name}`")
    if isinstance(part.get("file_ids"), list) and part["file_ids"]:
        checker.need("files", "`file_ids`")
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if url is not None and not (isinstance(url, str) and url.startswith("data:")):
        checker.need("urls", "an image by its address")
