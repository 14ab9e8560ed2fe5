"""The states of a proposal and the steps between them."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.gate.records.states import OPEN, TERMINAL, IllegalHistory, State, can_follow, current_state, next_states
from hive_core.protocol import ProposalKind, ProposalState

KINDS: tuple[ProposalKind, ...] = get_args(ProposalKind)
kinds = st.sampled_from(KINDS)


def walk(data: st.DataObject, kind: ProposalKind) -> list[State]:
    """Some way from the beginning to where nothing can follow."""
    path = [State.PROPOSAL]
    while choices := next_states(path[-1], kind):
        path.append(data.draw(st.sampled_from(sorted(choices))))
    return path


def test_the_wire_has_the_same_states() -> None:
    """Callers are told the states that there are, by the same words."""
    assert {state.value for state in State} == set(get_args(ProposalState))


@given(st.data(), kinds)
def test_every_walk_ends_in_one_terminal_state(data: st.DataObject, kind: ProposalKind) -> None:
    """Whatever is done with a proposal, it ends, and in exactly one terminal state."""
    path = walk(data, kind)
    assert path[-1] in TERMINAL
    assert sum(state in TERMINAL for state in path) == 1


@given(st.data(), kinds)
def test_the_tags_of_a_walk_tell_its_state(data: st.DataObject, kind: ProposalKind) -> None:
    """At any point of any walk the set of its tags, in any order, gives the state that was reached."""
    path = walk(data, kind)
    reached = path[: data.draw(st.integers(1, len(path)))]
    shuffled = data.draw(st.permutations(reached))
    assert current_state(shuffled, kind) is current_state(shuffled) is reached[-1]


@given(st.sets(st.sampled_from(State)), kinds)
def test_what_no_walk_leaves_is_refused(tags: set[State], kind: ProposalKind) -> None:
    """A set of tags is accepted only if it is one path from the beginning: none skipped, none beside it."""
    try:
        state = current_state(tags, kind)
    except IllegalHistory:
        return
    path = [State.PROPOSAL]
    for following_state in State:
        if following_state in tags and following_state is not State.PROPOSAL:
            assert following_state in next_states(path[-1], kind)
            path.append(following_state)
    assert set(path) == tags and path[-1] is state


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_terminal_when_nothing_follows(kind: ProposalKind) -> None:
    """Nothing leaves a terminal state, and whatever can be reached besides has a next one."""
    assert all(next_states(state, kind) == frozenset() for state in TERMINAL)
    reached, queue = set(), [State.PROPOSAL]
    while queue:
        state = queue.pop()
        if state not in reached:
            reached.add(state)
            queue.extend(next_states(state, kind))
    assert {state for state in reached if not next_states(state, kind)} <= TERMINAL


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", sorted(OPEN))
def test_every_open_state_can_be_ended_by_the_hive(state: State, kind: ProposalKind) -> None:
    """No state needs another party to end: one step leads to failed or withdrawn."""
    if state in (State.BUILDING, State.BUILT) and kind == "rollback":
        assert next_states(state, kind) == frozenset()
    else:
        assert next_states(state, kind) & {State.FAILED, State.WITHDRAWN}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_deployed_unapproved(kind: ProposalKind) -> None:
    """Only what was approved is deployed, and only a rollback is approved without a build of its own."""
    assert [state for state in State if can_follow(state, State.DEPLOYED, kind)] == [State.APPROVED]
    before = State.PROPOSAL if kind == "rollback" else State.BUILT
    assert [state for state in State if can_follow(state, State.APPROVED, kind)] == [before]


@pytest.mark.parametrize(
    "tags",
    [
        [],
        [State.BUILT],
        [State.PROPOSAL, State.BUILT],
        [State.PROPOSAL, State.BUILDING, State.BUILT, State.DENIED, State.WITHDRAWN],
        [State.PROPOSAL, State.BUILDING, State.BUILT, State.DEPLOYED],
        [State.PROPOSAL, State.BUILDING, State.WITHDRAWN],
    ],
)
def test_an_illegal_history_is_told_in_words(tags: list[State]) -> None:
    """The refusal names what does not fit."""
    with pytest.raises(IllegalHistory, match=r"cannot follow|begins with"):
        current_state(tags)
