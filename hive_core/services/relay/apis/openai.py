"""OpenAI's APIs: the paths, and the checks of both: Responses and Chat Completions."""

from __future__ import annotations

import re
from typing import Any

from hive_core.services.relay.apis import openai_chat, openai_responses
from hive_core.services.relay.apis.base import ApiRoute, CallTerms, CheckedCall

_MODEL_PATH = re.compile(r"/v1/models(/[A-Za-z0-9][A-Za-z0-9._:@/-]{0,199})?")
QUERY: dict[str, set[str]] = {"generate": set(), "count": set(), "read": {"client_version"}}


def find_route(method: str, path: str) -> ApiRoute | None:
    """Return what a path stands for; None if it is not served. A provider's base address has the version already."""
    rest = path.removeprefix("/v1")
    if method == "POST" and path == "/v1/responses":
        return ApiRoute("generate", rest, dialect="responses")
    if method == "POST" and path == "/v1/responses/input_tokens":
        return ApiRoute("count", rest, dialect="responses")
    if method == "POST" and path == "/v1/chat/completions":
        return ApiRoute("generate", rest, dialect="chat")
    if method == "GET" and _MODEL_PATH.fullmatch(path) and ".." not in path and "//" not in path:
        return ApiRoute("read", rest)
    return None


def check(body: dict[str, Any], route: ApiRoute, terms: CallTerms) -> CheckedCall:
    """Check a request, and put in the bound of its answer if it has none. Raises `CallRefused`."""
    if route.dialect == "chat":
        return openai_chat.check(body, terms)
    return openai_responses.check(body, route, terms)
