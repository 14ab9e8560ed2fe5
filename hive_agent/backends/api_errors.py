"""What a model's API meant by refusing, told from a status or from a CLI's words for it. Pure."""

from __future__ import annotations

import re

from hive_agent.backends.base import Failed, FailureKind, NeedsLogin

_LOGIN = re.compile(
    r"(?i)api[ _-]?key[^.]{0,40}(?:invalid|missing|expired|not (?:valid|found|set))|(?:invalid|incorrect|missing) "
    r"(?:x-)?(?:api[ _-]?key|bearer|auth)|unauthori[sz]ed|unauthenticated|authentication|not logged in|log ?in again"
    r"|please (?:log|sign) ?in|token[^.]{0,40}(?:expired|revoked|refresh)"
)
# Order counts: the words of one kind stand in messages of another.
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
_LATER = re.compile(r"(?i)(?:retry|try again|available again|resets?) (?:in|after) (\d+(?:\.\d+)?) ?(ms|s|m|h|d)\w*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LOOKED_AT = 4_000
"""How much of a text is searched, in characters."""


def judged(words: str, status: int | None = None, retry_after: float | None = None) -> Failed | NeedsLogin:
    """The outcome. `words` are kept as its detail; `status` is HTTP's, looked for in the words if it is not given."""
    looked = words[:_LOOKED_AT]
    if status is None:
        found = _STATUS.search(looked)
        status = int(found[1]) if found else None
    kind = _by_status(status) or _by_words(looked)
    if kind is None:
        return NeedsLogin(words)
    return Failed(kind, words, retry_after if retry_after is not None else _later(looked))


def _by_status(status: int | None) -> FailureKind | None:
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
    return None  # the others have several reasons, which their words tell


def _by_words(words: str) -> FailureKind | None:
    """None: credentials are missing or not taken."""
    if _STATUS.search(words) and re.search(r"\b401\b", words):
        return None
    for kind, pattern in _KINDS:
        if pattern.search(words):
            return kind
    return None if _LOGIN.search(words) else "refused"


def _later(words: str) -> float | None:
    found = _LATER.search(words)
    return float(found[1]) * _SECONDS[found[2].lower()] if found else None
