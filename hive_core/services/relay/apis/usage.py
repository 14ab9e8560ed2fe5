"""The tokens of a call, as the vendor's answer tells them: in the events of a stream, or in a body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hive_core.protocol.models.usage import TokenCounts
from hive_core.protocol.models.vendors import VendorApi
from hive_core.services.relay.apis.sse import EventReader

_MOST_TOKENS = 1_000_000_000
_MODEL_MOST = 200
_TEXTS = frozenset(
    {"text", "thinking", "partial_json", "delta", "content", "reasoning_content", "arguments", "refusal"}
)
"""Fields with what the model has written, in the events of a stream."""


class UsageReader:
    """Reads one answer; `tokens` are those told so far, None if there were none, or none that can be read."""

    def __init__(self, api: VendorApi, *, stream: bool) -> None:
        self._api = api
        self._events = EventReader() if stream else None
        self._body = bytearray()
        self._told: dict[str, Any] = {}
        self.model = ""
        """The model that has answered, as the vendor says."""
        self.complete = False
        """True if the vendor has said its last word on the tokens."""
        self.written = 0
        """Bytes of text that the model has written."""

    def feed(self, chunk: bytes) -> None:
        """Read a part of the answer."""
        if self._events is None:
            self._body += chunk
            return
        for data in self._events.feed(chunk):
            self._read_event(data)

    def finish(self) -> None:
        """Read what the end of the answer completes."""
        if self._events is not None:
            for data in self._events.finish():
                self._read_event(data)
            return
        answer = _object(bytes(self._body))
        self._body.clear()
        self._read_answer(answer)
        self.complete = bool(self._told)
        self.written = _written(answer)

    @property
    def tokens(self) -> TokenCounts | None:
        """The tokens told so far."""
        if not self._told:
            return None
        counts = _COUNTERS[self._api](self._told)
        if any(count is None for count in counts.values()):
            return None
        return TokenCounts.model_validate(counts)

    def _read_event(self, data: bytes) -> None:
        if data == b"[DONE]":
            return
        event = _object(data)
        kind = event.get("type")
        if self._api == "anthropic":
            if kind == "message_start":
                self._read_answer(_part(event, "message"))
            elif kind == "message_delta":
                # What it does not repeat stays as the beginning has told it.
                self._told |= {name: each for name, each in _part(event, "usage").items() if each is not None}
                self.complete = self.complete or "output_tokens" in _part(event, "usage")
            self.written += _texts(_part(event, "delta"))
        elif isinstance(kind, str) and kind.startswith("response."):
            if kind.endswith(".delta"):
                self.written += _texts(event)
            if "response" in event:
                self._read_answer(_part(event, "response"))
                self.complete = kind in ("response.completed", "response.incomplete") and bool(self._told)
        else:
            self._read_answer(event)
            self.written += _written(event)
            self.complete = bool(self._told) and (self._api != "google" or _has_ended(event) or self.complete)

    def _read_answer(self, answer: Mapping[str, Any]) -> None:
        model = answer.get("model") or answer.get("modelVersion")
        if isinstance(model, str):
            self.model = model[:_MODEL_MOST]
        usage = answer.get("usage") or answer.get("usageMetadata")
        if isinstance(usage, dict):
            self._told |= usage


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _part(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _texts(value: Mapping[str, Any]) -> int:
    return sum(
        len(each.encode("utf-8", "replace")) for name, each in value.items() if name in _TEXTS and type(each) is str
    )


def _written(answer: Mapping[str, Any]) -> int:
    """Return the bytes of text in an answer of Chat Completions, generateContent, Messages or Responses."""
    size = 0
    level: list[Any] = [answer.get(name) for name in ("choices", "candidates", "content", "output")]
    for _ in range(8):
        below: list[Any] = []
        for each in level:
            if isinstance(each, list):
                below += each
            elif isinstance(each, dict):
                size += _texts(each)
                below += each.values()
        level = below
    return size


def _has_ended(event: Mapping[str, Any]) -> bool:
    candidates = event.get("candidates")
    return isinstance(candidates, list) and any(
        isinstance(each, dict) and each.get("finishReason") for each in candidates
    )


def _count(value: Any) -> int | None:
    """Return a number of tokens, 0 if there is none; None for what is no number of tokens."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        return None
    return value


def _minus(value: int | None, *others: int | None) -> int | None:
    """Return what is left of a count that includes others; None if it cannot include them."""
    left = value
    for other in others:
        left = None if left is None or other is None else left - other
    return None if left is None or left < 0 else left


def _plus(*values: int | None) -> int | None:
    known = [each for each in values if each is not None]
    return sum(known) if len(known) == len(values) else None


Counts = dict[str, int | None]


def _anthropic(usage: Mapping[str, Any]) -> Counts:
    written = _count(usage.get("cache_creation_input_tokens"))
    hour = _count(_part(usage, "cache_creation").get("ephemeral_1h_input_tokens"))
    counts: Counts = {
        "input": _count(usage.get("input_tokens")),
        "cache_read": _count(usage.get("cache_read_input_tokens")),
        "cache_write": _minus(written, hour),
        "cache_write_hour": hour,
        "output": _count(usage.get("output_tokens")),
        "reasoning": _count(_part(usage, "output_tokens_details").get("thinking_tokens")),
    }
    iterations = usage.get("iterations")
    for each in iterations if isinstance(iterations, list) else []:
        # The compaction of a conversation within the call, which the figures at the top leave out.
        if isinstance(each, dict) and each.get("type") == "compaction":
            more = _anthropic({**each, "iterations": None})
            counts = {name: _plus(count, more[name]) for name, count in counts.items()}
    return counts | {"searches": _count(_part(usage, "server_tool_use").get("web_search_requests"))}


def _openai(usage: Mapping[str, Any]) -> Counts:
    prompt = "input_tokens" if "input_tokens" in usage else "prompt_tokens"
    answer = "output_tokens" if "input_tokens" in usage else "completion_tokens"
    details = _part(usage, f"{prompt}_details")
    cached = _count(details.get("cached_tokens"))
    written = _count(details.get("cache_write_tokens"))
    return {
        "input": _minus(_count(usage.get(prompt)), cached, written),
        "cache_read": cached,
        "cache_write": written,
        "output": _count(usage.get(answer)),
        "reasoning": _count(_part(usage, f"{answer}_details").get("reasoning_tokens")),
    }


def _google(usage: Mapping[str, Any]) -> Counts:
    cached = _count(usage.get("cachedContentTokenCount"))
    thoughts = _count(usage.get("thoughtsTokenCount"))
    given = _plus(_count(usage.get("promptTokenCount")), _count(usage.get("toolUsePromptTokenCount")))
    return {
        "input": _minus(given, cached),
        "cache_read": cached,
        "output": _plus(_count(usage.get("candidatesTokenCount")), thoughts),
        "reasoning": thoughts,
    }


_COUNTERS = {"anthropic": _anthropic, "openai": _openai, "google": _google}
