"""How the gate's tags are named: `<state>/<number>`."""

from __future__ import annotations

import re

from hive_core.gate.records.states import State

ENDORSED = "endorsed"
"""The tag `endorsed/N` is no state: of a proposal that two have to approve, the first has."""

_TAG = re.compile(r"([a-z]{1,16})/(0|[1-9][0-9]{0,17})")
_STATES = {state.value: state for state in State}


def tag_of(state: State | str, number: int) -> str:
    """The name of the tag that says that proposal `number` is in a state, or endorsed."""
    return f"{state}/{number}"


def in_tag(name: str) -> tuple[State | None, int] | None:
    """The state and number that a tag's name tells; a state of None is `endorsed`. None for what is no tag of ours."""
    found = _TAG.fullmatch(name)
    if found is None:
        return None
    word, number = found[1], int(found[2])
    if word == ENDORSED:
        return None, number
    return (_STATES[word], number) if word in _STATES else None
