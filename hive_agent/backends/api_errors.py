"""Classification of errors of a model's API, by HTTP status or by the text of an agent CLI. No I/O."""

from __future__ import annotations

import re

from hive_agent.backends.base import Failed, FailureKind, NeedsLogin

_LOGIN = re.compile(
    r"(?i)api[ _-]?key[^.]{0,40}(?:invalid|missing|expired|not (?:valid|found|set))|(?:invalid|incorrect|missing) "
    r"(?:x-)?(?:api[ _-]?key|bearer|auth)|unauthori[sz]ed|unauthenticated|authentication|not logged in|log ?in again"
    r"|please (?:log|sign) ?in|token[^.]{0,40}(?:expired|revoked|refresh)"
)
# The order matters: messages of one kind may contain words of a later kind.
_KINDS: tuple[tuple[FailureKind, re.Pattern[str]], ...] = (
    (
        "too_long",
        re.compile(
            r"(?i)(?:prompt|input|request|conversation)[^.]{0,30}too long|context (?:window|length|limit)"
            r"|context_length|ran out of room|token count[^.]{0,30}exceeds|maximum context|too many tokens"
        ),
    ),
    (
        "rate_limit",
        re.compile(
            r"(?i)rate.?limit|too many requests|slow down|usage limit|resource.?(?:has been )?exhausted"
            r"|wait and try again|quota.{0,80}(?:per|retry)|hit your (?:\w+ )?limit"
        ),
    ),
    ("billing", re.compile(r"(?i)credit balance|insufficient.?(?:quota|credit|fund|balance)|billing|payment")),
    (
        "overloaded",
        re.compile(
            r"(?i)overloaded|unavailable|internal server error|bad gateway|at capacity|high demand|ECONN\w+"
            r"|fetch failed|connect(?:ion)? |network|timed? ?out|error sending request|stream (?:error|disconnected)"
            r"|socket|getaddrinfo"
        ),
    ),
)
_STATUS = re.compile(r'(?i)\b(?:status(?: code)?|"code")\\?"?:? *(\d{3})\b')
_RETRY_AFTER = re.compile(
    r"(?i)(?:retry|try again|available again|resets?) (?:in|after) (\d+(?:\.\d+)?) ?(ms|s|m|h|d)\w*"
)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SEARCHED_CHARACTERS = 4_000
"""Length of the beginning of a message that is searched."""


def classify_error(message: str, status: int | None = None, retry_after: float | None = None) -> Failed | NeedsLogin:
    """Classify an error by its HTTP `status`, which is searched in the message if it is not given, and its message.

    The message becomes the detail of the outcome.
    """
    searched = message[:_SEARCHED_CHARACTERS]
    if status is None:
        found = _STATUS.search(searched)
        status = int(found[1]) if found else None
    kind = _kind_of_status(status) or _kind_of_message(searched)
    if kind is None:
        return NeedsLogin(message)
    return Failed(kind, message, retry_after if retry_after is not None else _find_retry_after(searched))


def _kind_of_status(status: int | None) -> FailureKind | None:
    match status:
        case 402:
            return "billing"
        case 413:
            return "too_long"
        case 429:
            return "rate_limit"
        case 408:
            return "overloaded"
        case int() if status >= 500:
            return "overloaded"
    return None  # other statuses have several causes, which only the message distinguishes


def _kind_of_message(message: str) -> FailureKind | None:
    """None: credentials are missing or rejected."""
    if _STATUS.search(message) and re.search(r"\b401\b", message):
        return None
    for kind, pattern in _KINDS:
        if pattern.search(message):
            return kind
    return None if _LOGIN.search(message) else "refused"


def _find_retry_after(message: str) -> float | None:
    found = _RETRY_AFTER.search(message)
    return float(found[1]) * _SECONDS[found[2].lower()] if found else None
