"""Requests of each API that are allowed, and their check."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

from hive_core.protocol.models.vendors import ModelFeature
from hive_core.services.relay.apis import anthropic, google, openai
from hive_core.services.relay.apis.base import ApiRoute, CallTerms, CheckedCall
from hive_core.services.relay.apis.strict_json import parse

PATHS: dict[str, tuple[ModuleType, str]] = {
    "messages": (anthropic, "/v1/messages"),
    "count_tokens": (anthropic, "/v1/messages/count_tokens"),
    "responses": (openai, "/v1/responses"),
    "chat": (openai, "/v1/chat/completions"),
    "google": (google, "/v1beta/models/m:generateContent"),
    "google_count": (google, "/v1beta/models/m:countTokens"),
}
ALLOWED: dict[str, dict[str, Any]] = {
    "messages": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]},
    "count_tokens": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"model": "m", "max_output_tokens": 5, "input": [{"role": "user", "content": "Hi"}]},
    "chat": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]},
    "google": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": {"maxOutputTokens": 5}},
    "google_count": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}


def check(api: str, body: object, *features: ModelFeature, **terms: Any) -> CheckedCall:
    """Read and check a request, as text or as it is read, as the relay does."""
    rules, path = PATHS[api]
    route: ApiRoute | None = rules.find_route("POST", path)
    assert route is not None
    parsed = parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    checked: CheckedCall = rules.check(parsed, route, CallTerms(features=frozenset(features), **terms))
    return checked


def with_change(api: str, change: dict[str, Any]) -> dict[str, Any]:
    """The allowed request of an API with other fields."""
    return {**ALLOWED[api], **change}
