"""Checks that a decision is about a proposal as it is now, for any subject.

`name` is the proposal's name, such as ada/3, and `done` is what the proposals of its kind are called when they can be
decided on: built, or checked.
"""

from __future__ import annotations

from hive_core.errors import HiveError, conflict
from hive_core.gate.records.states import State
from hive_core.gate.subject.row import SubjectRow


def check_expected(row: SubjectRow, name: str, expect: str, commit: str | None, *, done: str) -> None:
    """Check that a decision is about this commit in this state. Raises `other_commit`, `stale_state`."""
    if commit not in (None, row.commit):
        why = f"{name} is about commit {row.commit}, not {commit}, as this decision expects"
        raise conflict("other_commit", why, "look at it again before you decide: another one may have its number")
    if row.state.value != expect:
        raise _stale(row, name, f"{expect}, as this decision expects", "look at it again before you decide")
    if row.state is not State.BUILT:
        raise _stale(row, name, "ready for a decision", f"only what is {done} can be decided on")


def check_can_be_withdrawn(row: SubjectRow, name: str, *, done: str) -> None:
    """Raise `stale_state` if a proposal cannot be withdrawn in its state."""
    if row.state not in (State.PROPOSAL, State.BUILT):
        raise _stale(row, name, "withdrawn while it is so", f"wait until it is {done}" if row.open else "it is ended")


def _stale(row: SubjectRow, name: str, what: str, hint: str) -> HiveError:
    return conflict("stale_state", f"{name} is {row.state}, not {what}", hint)
