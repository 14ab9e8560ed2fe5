"""Classification of the errors of Claude Code. No I/O.

The `subtype` of a result is not used, because it is "success" for failures of the API, too.
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
"""Kinds by `error` of the synthetic message; other errors are classified by status and message."""
_NO_CONVERSATION = "No conversation found"
_LONGEST_MESSAGE = 2_000


def classify_result(result: Mapping[str, Any], error: str, retry_after: float | None) -> TurnOutcome:
    """The outcome of the turn with this result. `error` is the `error` of the turn's last message."""
    if field(result, "is_error") is False:
        return Ok()
    message = _message(result)
    refused = api_errors.find_hive_refusal(message)
    if refused is not None:
        return refused
    status = count(result, "api_error_status") or None
    if field(result, "terminal_reason") == "prompt_too_long" or status == 413:
        return Failed("too_long", message)
    if error in _LOGIN or status == 401:
        return NeedsLogin(message)
    if error in _KINDS:
        return Failed(_KINDS[error], message, retry_after)
    if status is None and field(result, "terminal_reason") == "api_error":
        return Failed("overloaded", message, retry_after)  # the API was not reached
    if text(result, "api_error_type") == "billing_error":
        return Failed("billing", message)
    return api_errors.classify_error(message, status, retry_after)


def classify_compaction_error(error: str) -> Failed | NeedsLogin:
    """Classify the error of a failed compaction, as the program reports it."""
    if error == "exhausted":
        return Failed("too_long", "the conversation could not be compacted below the model's limit")
    message = f"the conversation was not compacted: {error or 'no reason was given'}"
    return api_errors.classify_error(message[:_LONGEST_MESSAGE])


def is_conversation_missing(result: Mapping[str, Any]) -> bool:
    """Return whether the conversation to continue does not exist."""
    return field(result, "is_error") is True and _message(result).startswith(_NO_CONVERSATION)


def _message(result: Mapping[str, Any]) -> str:
    errors = field(result, "errors")
    joined = "; ".join(error for error in errors if isinstance(error, str)) if isinstance(errors, list) else ""
    message = joined or text(result, "result").strip() or "Claude Code reports a failed turn without a reason"
    return message[:_LONGEST_MESSAGE]
