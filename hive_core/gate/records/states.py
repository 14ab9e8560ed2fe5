"""The states of a proposal, and the names of the tags that record them.

::

    config, spawn, destroy:

    proposal ──▶ building ──▶ built ──▶ approved ──▶ deployed
        │            │          │           │
        ▼            ▼          ▼           ▼
    withdrawn     failed     denied,      failed
                            withdrawn

    rebuild, whose commit was approved before: the same, but nobody decides on it, so it is never denied

    rollback, whose closure was built and approved before:

    proposal ──▶ approved ──▶ deployed
        │            │
        ▼            ▼
    withdrawn     failed

A state is a tag `<state>/<number>` in the agent's applied repository. Tags are only ever added, so a proposal's state
is its last tag in this order. Every state that is not terminal has a step to a terminal one that needs no approval:
`proposal` and `built` can be withdrawn (by the proposer, after expiry, after main has moved), `building` and `approved`
fail (the build or the deployment has failed or was cut off). A proposal that has to end during its build becomes built
first and is withdrawn then, or fails; so every closure is named by a tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import pairwise

from hive_core.protocol import ProposalKind


class State(StrEnum):
    """The state of a proposal, in the order in which its tags are written."""

    PROPOSAL = "proposal"
    BUILDING = "building"
    BUILT = "built"
    APPROVED = "approved"
    DEPLOYED = "deployed"
    FAILED = "failed"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"


TERMINAL = frozenset({State.DEPLOYED, State.FAILED, State.DENIED, State.WITHDRAWN})
"""A proposal ends in exactly one of these and never leaves it."""
OPEN = frozenset(State) - TERMINAL
"""The states of a proposal that has not ended."""

_ENDED: Mapping[State, frozenset[State]] = {state: frozenset() for state in TERMINAL}
_BUILT: Mapping[State, frozenset[State]] = {
    State.PROPOSAL: frozenset({State.BUILDING, State.WITHDRAWN}),
    State.BUILDING: frozenset({State.BUILT, State.FAILED}),
    State.BUILT: frozenset({State.APPROVED, State.DENIED, State.WITHDRAWN}),
    State.APPROVED: frozenset({State.DEPLOYED, State.FAILED}),
    **_ENDED,
}
_NOT_DECIDED: Mapping[State, frozenset[State]] = {
    **_BUILT,
    State.BUILT: frozenset({State.APPROVED, State.WITHDRAWN}),
}
_NOT_BUILT: Mapping[State, frozenset[State]] = {
    State.PROPOSAL: frozenset({State.APPROVED, State.WITHDRAWN}),
    State.APPROVED: frozenset({State.DEPLOYED, State.FAILED}),
    **_ENDED,
}
_STEPS: Mapping[ProposalKind, Mapping[State, frozenset[State]]] = {"rebuild": _NOT_DECIDED, "rollback": _NOT_BUILT}
_ORDER = {state: position for position, state in enumerate(State)}


class IllegalHistory(ValueError):
    """A set of tags that the state machine cannot have written."""


def next_states(state: State, kind: ProposalKind) -> frozenset[State]:
    """Return the states that may come next; none after a terminal state, or after one that the kind never has."""
    return _STEPS.get(kind, _BUILT).get(state, frozenset())


def can_follow(before: State, after: State, kind: ProposalKind) -> bool:
    """Return True if `after` is a legal next state of `before`."""
    return after in next_states(before, kind)


def current_state(tags: Iterable[State], kind: ProposalKind | None = None) -> State:
    """Return the state of a proposal with these tags. Raises IllegalHistory if they do not form one legal path.

    Without `kind`, which the names of tags do not contain, the path of any kind is legal.
    """
    path = sorted(set(tags), key=_ORDER.__getitem__)
    if not path or path[0] is not State.PROPOSAL:
        raise IllegalHistory(f"a proposal begins with a tag proposal/N, not with {path[0] if path else 'nothing'}")
    kinds: tuple[ProposalKind, ...] = ("config", "rollback") if kind is None else (kind,)
    first_wrong = [_first_wrong(path, possible) for possible in kinds]
    if None in first_wrong:
        return path[-1]
    raise IllegalHistory(str(first_wrong[0]))


def _first_wrong(path: list[State], kind: ProposalKind) -> str | None:
    for before, after in pairwise(path):
        if not can_follow(before, after, kind):
            return f"{after} cannot follow {before}"
    return None


ENDORSED = "endorsed"
"""The tag `endorsed/N` is no state: the first of two deciders has approved the proposal."""

_TAG = re.compile(r"([a-z]{1,16})/(0|[1-9][0-9]{0,17})")
_STATES = {state.value: state for state in State}


def tag_name(state: State | str, number: int) -> str:
    """Return the name of the tag for a state of proposal `number`, or for `endorsed`."""
    return f"{state}/{number}"


def parse_tag_name(name: str) -> tuple[State | None, int] | None:
    """Return the state (None for `endorsed`) and the number in a tag's name; None if it is no tag of the gate."""
    match = _TAG.fullmatch(name)
    if match is None:
        return None
    word, number = match[1], int(match[2])
    if word == ENDORSED:
        return None, number
    return (_STATES[word], number) if word in _STATES else None
