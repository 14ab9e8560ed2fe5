"""Classification of errors of a model's API, by HTTP status and by the text of an agent CLI. No I/O.

The status decides; the text decides only between the causes that a status can have, or if there is no status.
"""

from __future__ import annotations

import re
import time

from hive_agent.backends import retry_times
from hive_agent.backends.base import Failed, FailureKind, NeedsLogin
from hive_core.protocol.models.refusals import find_refusal_text

_LOGIN = re.compile(
    r"(?i)api[ _-]?key[^.]{0,40}(?:invalid|missing|expired|not (?:valid|found|set))|(?:invalid|incorrect|missing) "
    r"(?:x-)?(?:api[ _-]?key|bearer|auth)|unauthori[sz]ed|unauthenticated|authentication|not logged in|log ?in again"
    r"|(?:please|run) /?(?:log|sign) ?in|login (?:expired|reached)|token[^.]{0,40}(?:expired|revoked|refresh)"
    r"|auth credentials|(?:^|[\"':. ])user not found"
)
_ACCOUNT = re.compile(
    r"(?i)(?:organi[sz]ation|account|project|workspace)[^.]{0,40}(?:disabled(?! api key)|deactivated|suspended|banned)"
    r"|disabled organi[sz]ation|consumer[^.]{0,40}suspended"
)
_CREDIT = re.compile(
    r"(?i)credit balance|insufficient.?(?:quota|credit|fund|balance)|billing|payment|more credits|out of credits"
    r"|spend(?:ing)? (?:limit|cap)|key limit exceeded|(?:credits|balance)[^.]{0,30}(?:exhausted|depleted|used up)"
)
_TOO_LONG = re.compile(
    r"(?i)(?:prompt|input|request|conversation)[^.]{0,30}too long|context (?:window|length|limit)"
    r"|context_length|ran out of room|token count[^.]{0,30}exceeds|maximum context|too many tokens"
)
_LIMIT = re.compile(
    r"(?i)rate.?limit|too many requests|slow down|usage limit|resource.?(?:has been )?exhausted"
    r"|wait and try again|quota.{0,80}(?:per|retry)|hit your (?:\w+ )?limit|(?:weekly|session|\d-hour) limit"
    r"|exhausted your (?:\w+ )?(?:capacity|quota)|quota will reset|quota exceeded for"
)
_UNREACHABLE = re.compile(
    r"(?i)overloaded|unavailable|internal server error|bad gateway|at capacity|high demand|ECONN\w+"
    r"|fetch failed|connect(?:ion)? |network|timed? ?out|error sending request|stream (?:error|disconnected)"
    r"|socket|getaddrinfo"
)
_NO_MODEL = re.compile(r"(?i)model|endpoint|deployment|no instances")
_RENEWED = re.compile(
    r"(?i)quota exceeded for|resource.?(?:has been )?exhausted|rate limit reached|per.?(?:min|hour|day)"
    r"|in \d+(?:\.\d+)?m?s"
)
"""Words of a limit that renews itself, although the same message speaks of billing details."""
# The order matters: messages of one kind may contain words of a later kind.
_KINDS: tuple[tuple[FailureKind, re.Pattern[str]], ...] = (
    ("too_long", _TOO_LONG),
    ("billing", _ACCOUNT),
    ("rate_limit", _LIMIT),
    ("billing", _CREDIT),
    ("overloaded", _UNREACHABLE),
)
_STATUS = re.compile(
    r"""(?i)\b(?:status(?: code)?|code|HTTP(?:/[\d.]+)?|API error|error)\\?["']?\)?[ :=(\[]*([45]\d\d)(?![\d.])"""
    r"|^\W{0,3}([45]\d\d)\b"
)
_SEARCHED_CHARACTERS = 4_000
"""Length of the beginning of a message that is searched."""


def classify_error(
    message: str, status: int | None = None, retry_after: float | None = None, now: float | None = None
) -> Failed | NeedsLogin:
    """Classify an error by its HTTP `status`, which is searched in the message if it is not given, and its message.

    The message becomes the detail of the outcome. `now` are seconds since 1970, for a message with a time.
    """
    searched = message[:_SEARCHED_CHARACTERS]
    refused = find_hive_refusal(searched, now)
    if refused is not None:
        return refused
    if status is None:
        status = find_status(searched)
    kind = _kind_of_message(searched) if status is None else _kind_of_status(status, searched)
    if kind is None:
        return NeedsLogin(message)
    if retry_after is None:
        retry_after = retry_times.find_seconds(searched, time.time() if now is None else now)
    return Failed(kind, message, retry_after)


def find_hive_refusal(message: str, now: float | None = None) -> Failed | None:
    """Return the failure if the message is a refusal of the hive itself, with its text; None for all others."""
    found = find_refusal_text(message)
    if found is None:
        return None
    left = None if found.until is None else max(0.0, found.until - (time.time() if now is None else now))
    return Failed(found.kind, found.text, left)


def find_status(message: str) -> int | None:
    """Find the HTTP status that a message names."""
    found = _STATUS.search(message)
    return int(found[1] or found[2]) if found else None


def _kind_of_status(status: int, message: str) -> FailureKind | None:
    """None: credentials are missing or rejected."""
    match status:
        case 401:
            return None
        case 402:
            return "billing"
        case 403:
            return _kind_of_refused_access(message)
        case 404 if _NO_MODEL.search(message):
            return "config"
        case 413:
            return "too_long"
        case 429:
            is_renewed = _RENEWED.search(message) is not None
            return "billing" if _CREDIT.search(message) and not is_renewed else "rate_limit"
        case 408 | 409:
            return "overloaded"
        case int() if status >= 500:
            return "overloaded"
    return _kind_of_message(message)


def _kind_of_refused_access(message: str) -> FailureKind | None:
    """The kind of a 403: the credentials have no access, unless the message names another cause."""
    if _ACCOUNT.search(message) or _CREDIT.search(message):
        return "billing"
    if re.search(r"(?i)moderation|flagged|safety|content policy", message):
        return "refused"
    return "rate_limit" if _LIMIT.search(message) else None


def _kind_of_message(message: str) -> FailureKind | None:
    """None: credentials are missing or rejected."""
    for kind, pattern in _KINDS:
        if pattern.search(message):
            return kind
    return None if _LOGIN.search(message) else "refused"
