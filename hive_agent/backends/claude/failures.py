"""What kind of failure an error of Claude Code is. Pure.

`subtype` of a result is not looked at: it says "success" of API failures too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hive_agent.backends import api_errors
from hive_agent.backends.base import Failed, FailureKind, NeedsLogin, Ok, TurnOutcome
from hive_agent.infra.json_text import count, field, text

_LOGIN = frozenset({"authentication_failed", "oauth_org_not_allowed"})
_KINDS: Mapping[str, FailureKind] = {
    "rate_limit": "rate_limit",
    "overloaded": "overloaded",
    "server_error": "overloaded",
    "billing_error": "billing",
    "model_not_found": "config",
    "max_output_tokens": "refused",
}
"""By `error` of the message that stands in for the model's answer; the others are told by status and words."""
_NO_CONVERSATION = "No conversation found"
_LONGEST_WORDS = 2_000


def judged(result: Mapping[str, Any], error: str, retry_after: float | None) -> TurnOutcome:
    """How the turn with this result ended. `error` is what the last message in the model's name says went wrong."""
    if field(result, "is_error") is False:
        return Ok()
    words = _words(result)
    status = count(result, "api_error_status") or None
    if field(result, "terminal_reason") == "prompt_too_long" or status == 413:
        return Failed("too_long", words)
    if error in _LOGIN or status == 401:
        return NeedsLogin(words)
    if error in _KINDS:
        return Failed(_KINDS[error], words, retry_after)
    if status is None and field(result, "terminal_reason") == "api_error":
        return Failed("overloaded", words, retry_after)  # not reached at all
    if text(result, "api_error_type") == "billing_error":
        return Failed("billing", words)
    return api_errors.judged(words, status, retry_after)


def compacted(error: str) -> Failed | NeedsLogin:
    """Why the conversation was not shortened; `error` are the program's words."""
    if error == "exhausted":
        return Failed("too_long", "the conversation could not be shortened below the model's limit")
    return api_errors.judged(f"the conversation was not shortened: {error or 'no reason was given'}"[:_LONGEST_WORDS])


def conversation_is_gone(result: Mapping[str, Any]) -> bool:
    """Whether this result says that there is no such conversation to go on with."""
    return field(result, "is_error") is True and _words(result).startswith(_NO_CONVERSATION)


def _words(result: Mapping[str, Any]) -> str:
    errors = field(result, "errors")
    said = "; ".join(error for error in errors if isinstance(error, str)) if isinstance(errors, list) else ""
    words = said or text(result, "result").strip() or "Claude Code says that the turn failed, and not why"
    return words[:_LONGEST_WORDS]
