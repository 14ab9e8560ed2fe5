"""Checks that a decision is about a proposal as it is now, for any subject.

`name` is the proposal's name, such as ada/3, and `words` are the words for its states, where these have other ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from hive_core.errors import conflict
from hive_core.gate.records.states import State
from hive_core.gate.subject.row import SubjectRow

_NO_WORDS: Mapping[str, str] = {}
_VERBS = {"failed": "has failed", "landed": "has landed", "denied": "was denied", "withdrawn": "was withdrawn"}


def describe_state(row: SubjectRow, words: Mapping[str, str] = _NO_WORDS) -> str:
    """Return the state of a proposal as the end of a sentence, such as `is built` or `has landed`."""
    word = words.get(row.state.value, row.state.value)
    return _VERBS.get(word, f"is {word}")


def check_expected(
    row: SubjectRow, name: str, expect: str, commit: str | None, words: Mapping[str, str] = _NO_WORDS
) -> None:
    """Check that a decision is about this commit in this state. Raises `other_commit`, `stale_state`."""
    if commit not in (None, row.commit):
        why = f"{name} is about commit {row.commit}, not {commit}, as this decision expects"
        raise conflict("other_commit", why, "look at it again before you decide: another one may have its number")
    stands = f"{name} {describe_state(row, words)}"
    if row.state.value != expect and not row.open:
        raise conflict("stale_state", f"{stands} already", "it has ended, so nobody decides on it any more")
    if row.state.value != expect:
        why = f"{stands}, not {words.get(expect, expect)}, as this decision expects"
        raise conflict("stale_state", why, "look at it again before you decide")
    if row.state is not State.BUILT:
        hint = f"only what is {words.get('built', 'built')} can be decided on"
        raise conflict("stale_state", f"{stands}, not ready for a decision", hint)


def check_can_be_withdrawn(row: SubjectRow, name: str, words: Mapping[str, str] = _NO_WORDS) -> None:
    """Raise `stale_state` if a proposal cannot be withdrawn in its state."""
    if row.state in (State.PROPOSAL, State.BUILT):
        return
    stands = f"{name} {describe_state(row, words)}"
    if row.open:
        hint = f"wait until it is {words.get('built', 'built')}"
        raise conflict("stale_state", f"{stands}, and cannot be withdrawn meanwhile", hint)
    raise conflict("stale_state", f"{stands} already, so it cannot be withdrawn", "it is ended")
