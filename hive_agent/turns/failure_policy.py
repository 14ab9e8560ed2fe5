"""What the harness does about each way in which a turn can fail. A table; no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hive_agent.backends.base import Failed, FailureKind, NeedsLogin
from hive_core.protocol import HarnessState

Kind = FailureKind | Literal["needs_login"]
_LONGEST_RETRY_AFTER = 6 * 3_600.0
"""Longest that an API may make the harness wait: limits of subscriptions are given anew after five hours."""


@dataclass(frozen=True)
class Reaction:
    """What follows a failure. Pauses are in seconds and double from `first` to `longest` with failures in a row.

    `state` is what the harness reports meanwhile; in `paused` it waits for a person, and the pause is only there for
    what mends itself unseen. `suspect`: the turn's messages may be the reason, so they are counted as failed with it.
    `held_after`: a message that has failed so often (with a turn of its own) is left to a person, and others go on.
    """

    state: HarnessState
    first: float
    longest: float
    suspect: bool = False
    restart: bool = False
    """The backend is closed and opened again before the next try."""
    compact: bool = False
    """The conversation is shortened, and the turn tried once more at once, before anything else of this is done."""
    login: bool = False
    """The pause ends as soon as the backend has credentials that it did not have before."""
    held_after: int | None = None


_BRIEF = (1.0, 60.0)
_SLOW = (600.0, 3_600.0)

REACTIONS: Mapping[Kind, Reaction] = {
    "rate_limit": Reaction("failed", 5.0, 600.0),
    "overloaded": Reaction("failed", 2.0, 300.0),
    "billing": Reaction("paused", *_SLOW),
    "too_long": Reaction("paused", *_SLOW, suspect=True, compact=True),
    "refused": Reaction("failed", *_BRIEF, suspect=True),
    "no_tools": Reaction("failed", *_BRIEF, restart=True),
    "no_program": Reaction("paused", 60.0, 3_600.0),
    "config": Reaction("paused", *_SLOW),
    "crashed": Reaction("failed", *_BRIEF, suspect=True, restart=True),
    "hung": Reaction("failed", *_BRIEF, suspect=True, restart=True),
    "timeout": Reaction("failed", *_BRIEF, suspect=True, held_after=3),
    "steps": Reaction("failed", *_BRIEF, suspect=True, held_after=3),
    "cancelled": Reaction("idle", 0.0, 0.0, held_after=0),
    "internal": Reaction("failed", *_BRIEF, suspect=True, restart=True),
    "core": Reaction("failed", *_BRIEF, suspect=True),
    "needs_login": Reaction("needs_login", 60.0, 3_600.0, login=True),
}

TOO_MANY_HELD = Reaction("paused", *_SLOW)
"""When as many turns as may be held wait for a person already, another makes the harness wait for that person, too."""
MOST_HELD = 10


def kind_of(outcome: Failed | NeedsLogin) -> Kind:
    """The row of the table."""
    return "needs_login" if isinstance(outcome, NeedsLogin) else outcome.kind


def pause(reaction: Reaction, in_a_row: int, retry_after: float | None) -> float:
    """Seconds until the next try after `in_a_row` failures (at least 1), never sooner than the API asked for."""
    doubled = min(reaction.first * 2.0 ** min(in_a_row - 1, 32), reaction.longest)
    if retry_after is None or not math.isfinite(retry_after):
        return doubled
    return max(doubled, min(retry_after, _LONGEST_RETRY_AFTER))
