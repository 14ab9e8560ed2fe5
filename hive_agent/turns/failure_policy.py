"""The reaction of the harness to each kind of failure, as a table. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hive_agent.backends.base import Failed, FailureKind, NeedsLogin
from hive_core.protocol import HarnessState

Kind = FailureKind | Literal["needs_login"]
_LONGEST_TOLD = 6 * 3_600.0
"""Longest pause that an API can ask for, where it is not about a limit of use."""
_LONGEST_LIMIT = 32 * 86_400.0
"""Longest time until a limit of use ends: there are limits of hours, of a week and of a month."""
_EXACT_SECONDS = 60.0
"""A told time from this one on is waited for exactly; a shorter one does not keep pauses from growing."""


@dataclass(frozen=True)
class Reaction:
    """The reaction to a failure. Pauses are in seconds and double from `first` to `longest` with failures in a row.

    `state` is the state that the harness reports during the pause; `paused` means that the operator has to act, and the
    turn is retried after the pause only in case the cause has disappeared. `suspect`: the turn's messages may be the
    cause, so the failure counts against them. `held_after`: a message that has failed so often, in a turn of its own,
    is held for the operator, and other messages are handled. `checked_after`: the conversation may be the cause, and is
    checked after so many failures in a row.
    """

    state: HarnessState
    first: float
    longest: float
    suspect: bool = False
    restart: bool = False
    """The backend is closed and opened again before the next try."""
    compact: bool = False
    """The conversation is compacted and the turn retried once at once, before the rest of the reaction applies."""
    login: bool = False
    """The pause ends as soon as the backend gets credentials."""
    longest_told: float = _LONGEST_TOLD
    """Longest pause that is made because the API asks for it."""
    held_after: int | None = None
    checked_after: int | None = None

    def holds(self, failures: int, *, in_new_session: bool) -> bool:
        """Return True if a message is held that failed so often, or in a conversation that began because of it."""
        return self.held_after is not None and (failures >= self.held_after or in_new_session)


_BRIEF = (1.0, 60.0)
_SLOW = (600.0, 3_600.0)

REACTIONS: Mapping[Kind, Reaction] = {
    "rate_limit": Reaction("failed", 5.0, 600.0, longest_told=_LONGEST_LIMIT),
    "overloaded": Reaction("failed", 2.0, 300.0),
    "billing": Reaction("paused", *_SLOW),
    # The daemon says when there is money; this is for the case that its word does not arrive.
    "budget": Reaction("budget", 3_600.0, 3_600.0, longest_told=_LONGEST_LIMIT),
    "stopped": Reaction("paused", *_SLOW),
    "too_long": Reaction("paused", *_SLOW, suspect=True, compact=True, checked_after=1),
    "refused": Reaction("failed", *_BRIEF, suspect=True, held_after=3, checked_after=3),
    "no_tools": Reaction("failed", *_BRIEF, restart=True),
    "no_program": Reaction("paused", 60.0, 3_600.0),
    "shortage": Reaction("failed", *_BRIEF),
    "config": Reaction("paused", *_SLOW),
    "crashed": Reaction("failed", *_BRIEF, suspect=True, restart=True, held_after=5, checked_after=3),
    "hung": Reaction("failed", *_BRIEF, suspect=True, restart=True, held_after=3, checked_after=3),
    "timeout": Reaction("failed", *_BRIEF, suspect=True, held_after=3),
    "steps": Reaction("failed", *_BRIEF, suspect=True, held_after=3),
    "lost_tools": Reaction("failed", *_BRIEF, suspect=True, restart=True, held_after=5),
    "cancelled": Reaction("idle", 0.0, 0.0, held_after=0),
    "interrupted": Reaction("failed", *_BRIEF, suspect=True, held_after=3),
    "internal": Reaction("failed", *_BRIEF, suspect=True, restart=True, held_after=5),
    "provider": Reaction("paused", 60.0, 3_600.0),
    "core": Reaction("failed", *_BRIEF, suspect=True),
    "needs_login": Reaction("needs_login", 60.0, 3_600.0, login=True),
}

TOO_MANY_HELD = Reaction("paused", *_SLOW)
"""The reaction to another turn that should be held while `MOST_HELD` turns are held: the harness pauses."""
MOST_HELD = 10
USELESS_SESSION = Reaction("paused", *_SLOW)
"""The reaction to a failure that a new conversation would not remove."""


def kind_of(outcome: Failed | NeedsLogin) -> Kind:
    """The key of the outcome in `REACTIONS`."""
    return "needs_login" if isinstance(outcome, NeedsLogin) else outcome.kind


def pause(reaction: Reaction, in_a_row: int, retry_after: float | None) -> float:
    """Seconds until the next attempt after `in_a_row` failures (at least 1), at least what the API asked for.

    If it asked for a minute or more, they are exactly that, and for a budget they always are.
    """
    doubled = min(reaction.first * 2.0 ** min(in_a_row - 1, 32), reaction.longest)
    if retry_after is None or not math.isfinite(retry_after):
        return doubled
    told = min(retry_after, reaction.longest_told)
    if reaction.state == "budget":
        return max(1.0, told)
    return told if told >= _EXACT_SECONDS else max(doubled, told)
