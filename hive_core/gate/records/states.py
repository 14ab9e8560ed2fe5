"""The states of a proposal, and the names of the tags that record them.

::

    config, spawn, destroy:

    proposal ──▶ building ──▶ built ──▶ approved ──▶ deployed
        │            │          │           │
        ▼            ▼          ▼           ▼
    withdrawn     failed     denied,      failed
                            withdrawn

    rebuild, of which the commit was approved before: the same, but nobody decides on it, so it is never denied

    rollback, of which everything was built and approved before:

    proposal ──▶ approved ──▶ deployed
        │            │
        ▼            ▼
    withdrawn     failed

A state is a tag `<state>/<number>` in the agent's applied repository. Tags are only ever added, so a proposal's state
is the furthest of its tags. Every state that is not terminal has a step to a terminal one that nobody has to agree to:
`proposal` and `built` can be withdrawn (by who proposed, when time is up, when main moved), `building` and `approved`
fail (the build or the deployment did not succeed, or was cut off). What has to end while it is building becomes built
first and is withdrawn then, or fails: so a closure is never left without a tag that tells of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import pairwise

from hive_core.protocol import ProposalKind


class State(StrEnum):
    """Where a proposal is, in the order in which its tags are planted."""

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
"""Something can still become of a proposal in these."""

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
_ORDER = {state: place for place, state in enumerate(State)}


class IllegalHistory(ValueError):
    """A set of tags that no run of the state machine leaves behind."""


def next_states(state: State, kind: ProposalKind) -> frozenset[State]:
    """The states that may come next; none after a terminal state, or after one that the kind never has."""
    return _STEPS.get(kind, _BUILT).get(state, frozenset())


def can_follow(before: State, after: State, kind: ProposalKind) -> bool:
    """Whether `after` is a legal next state of `before`."""
    return after in next_states(before, kind)


def current_state(tags: Iterable[State], kind: ProposalKind | None = None) -> State:
    """The state of a proposal with these tags; raises IllegalHistory if they do not form one legal path.

    Without `kind`, which the names of tags do not tell, a path of any kind will do.
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
"""The tag `endorsed/N` is no state: of a proposal that two have to approve, the first has."""

_TAG = re.compile(r"([a-z]{1,16})/(0|[1-9][0-9]{0,17})")
_STATES = {state.value: state for state in State}


def tag_name(state: State | str, number: int) -> str:
    """The name of the tag that says that proposal `number` is in a state, or endorsed."""
    return f"{state}/{number}"


def parse_tag_name(name: str) -> tuple[State | None, int] | None:
    """The state and number that a tag's name tells; a state of None is `endorsed`. None for what is no tag of ours."""
    found = _TAG.fullmatch(name)
    if found is None:
        return None
    word, number = found[1], int(found[2])
    if word == ENDORSED:
        return None, number
    return (_STATES[word], number) if word in _STATES else None
