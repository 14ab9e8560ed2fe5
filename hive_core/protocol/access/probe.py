"""The tries that `doctor --live` orders from the harness of an agent, and its report: the agent's word.

Without pydantic, for a quick start. Both ends are JSON on the streams of a session.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

PROBE = "probe-network"
"""The command of `hive-ag3nt`."""
TRY_SECONDS = 1.0
"""Longest that one try takes; all are made at the same time."""
MOST_TRIES = 64
MOST_ANSWER = 64 * 1024
_MOST_TEXT = 200

TryKind = Literal["tcp", "udp", "unix", "proxy"]
Outcome = Literal["reached", "refused", "silent", "blocked"]
"""Something was reached; whoever has the address refused; nobody answered, so that what was sent may have left; or the
kernel knows no way there.
"""


@dataclass(frozen=True)
class Try:
    """One thing to reach: an address with its port, a unix socket (`@name` is abstract), or a host by the proxy."""

    kind: TryKind
    address: str
    port: int = 0


@dataclass(frozen=True)
class Tried:
    """The outcome of a try. `detail` has the error or the status; `answer` is what the other side said first."""

    outcome: Outcome
    detail: str = ""
    answer: str = ""


class BadProbe(ValueError):
    """An order or a report that cannot be read."""


def encode_order(token: str, tries: Sequence[Try]) -> str:
    """Return the argument with which the probe is started; it sends `token` to whoever it reaches."""
    return json.dumps({"token": token, "tries": [asdict(each) for each in tries]})


def decode_order(text: str) -> tuple[str, list[Try]]:
    """Return the token and the tries. Raises BadProbe."""
    try:
        found = json.loads(text)
        tries = [Try(each["kind"], str(each["address"]), int(each.get("port", 0))) for each in found["tries"]]
        token = str(found["token"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise BadProbe("an order that cannot be read") from None
    if len(tries) > MOST_TRIES or any(each.kind not in get_args(TryKind) for each in tries):
        raise BadProbe("an order with unknown or too many tries")
    return token, tries


def encode_report(tried: Sequence[Tried]) -> str:
    """Return the report of all tries, in their order."""
    return json.dumps([asdict(each) for each in tried])


def decode_report(data: bytes, count: int) -> list[Tried]:
    """Return the report on `count` tries, whose texts are cut. Raises BadProbe: an agent can send anything."""
    try:
        found = json.loads(data)
        tried = [
            Tried(each["outcome"], str(each["detail"])[:_MOST_TEXT], str(each["answer"])[:_MOST_TEXT]) for each in found
        ]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise BadProbe("a report that cannot be read") from None
    if len(tried) != count or any(each.outcome not in get_args(Outcome) for each in tried):
        raise BadProbe("a report about something else than what was to be tried")
    return tried
