"""The headers that pass the relay, to the vendor and back; all others are left out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from hive_core.protocol.models.vendors import ModelFeature, VendorApi

_PASSED: Mapping[VendorApi, re.Pattern[str]] = {
    "anthropic": re.compile(
        r"user-agent|anthropic-version|anthropic-dangerous-direct-browser-access|x-app|x-stainless-[a-z-]+"
        r"|x-client-request-id|x-claude-code-[a-z-]+"
    ),
    "openai": re.compile(
        r"user-agent|openai-beta|originator|version|session[_-]id|conversation[_-]id|thread[_-]id|x-client-request-id"
        r"|x-codex-[a-z-]+|x-stainless-[a-z-]+|http-referer|x-title|x-openrouter-title"
    ),
    "google": re.compile(r"user-agent|x-goog-api-client"),
}
_BETAS = re.compile(
    r"(?:claude-code|interleaved-thinking|adaptive-thinking|redact-thinking|thinking-[a-z-]+|fine-grained-tool-streaming"
    r"|token-efficient-tools|context-1m|context-management|model-context-window-exceeded|compact|prompt-caching[a-z-]*"
    r"|extended-cache-ttl|cache-diagnosis|token-counting|output-\d+k|effort|structured-outputs|task-budgets"
    r"|advanced-tool-use|tool-search-tool|tool-examples|mid-conversation-[a-z-]+|computer-use|pdfs)-\d{4}-?\d\d-?\d\d"
)
"""Names in `anthropic-beta` of what the checks of a request know, or what changes nothing beyond it."""
_FEATURE_BETAS: tuple[tuple[re.Pattern[str], ModelFeature], ...] = (
    (re.compile(r"web-(?:search|fetch)-[0-9-]+"), "web"),
    (re.compile(r"code-execution-[a-z0-9-]+"), "code"),
    (re.compile(r"mcp-client-[0-9-]+"), "mcp"),
    (re.compile(r"files-api-[0-9-]+"), "files"),
    (re.compile(r"fast-mode-[0-9-]+"), "priority"),
)
_RETURNED = re.compile(
    r"content-type|cache-control|retry-after(?:-ms)?|(?:x-)?request-id|x-should-retry|anthropic-ratelimit-[a-z-]+"
    r"|x-ratelimit-[a-z-]+|openai-(?:processing-ms|version|model)|x-models-etag|x-reasoning-included|x-codex-[a-z-]+"
)
_VALUE = re.compile(r"[\t -~]{0,1000}")


def to_vendor(api: VendorApi, given: Iterable[tuple[str, str]], features: Collection[ModelFeature]) -> dict[str, str]:
    """Return the headers of a request that are sent on. Keys are in none of them."""
    found = {"accept": "*/*", "accept-encoding": "identity", "content-type": "application/json"}
    betas: list[str] = []
    for spelling, value in given:
        name = spelling.lower()
        if api == "anthropic" and name == "anthropic-beta":
            betas += (each.strip() for each in value.split(","))
        elif _PASSED[api].fullmatch(name) and _VALUE.fullmatch(value):
            found[name] = value
    allowed = [each for each in dict.fromkeys(betas) if _is_allowed_beta(each, features)]
    if allowed:
        found["anthropic-beta"] = ",".join(allowed)
    return found


def to_agent(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of an answer that are handed back."""
    return {
        name.lower(): value for name, value in given if _RETURNED.fullmatch(name.lower()) and _VALUE.fullmatch(value)
    }


def key_header(api: VendorApi, key: str) -> dict[str, str]:
    """Return the header with the key of a vendor."""
    match api:
        case "anthropic":
            return {"x-api-key": key}
        case "google":
            return {"x-goog-api-key": key}
    return {"authorization": f"Bearer {key}"}


def presented_keys(headers: Mapping[str, str]) -> list[str]:
    """Return the keys that a request has brought, wherever a vendor's client puts them."""
    found = [headers.get(name, "") for name in ("x-api-key", "x-goog-api-key")]
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return [*found, token.strip() if scheme.lower() == "bearer" else ""]


def _is_allowed_beta(name: str, features: Collection[ModelFeature]) -> bool:
    if _BETAS.fullmatch(name):
        return True
    return any(pattern.fullmatch(name) and feature in features for pattern, feature in _FEATURE_BETAS)
