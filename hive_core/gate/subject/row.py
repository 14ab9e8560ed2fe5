"""The row of a proposal of any kind, as the parts that serve all kinds need it."""

from __future__ import annotations

from typing import Protocol

from hive_core.gate.records.states import State


class SubjectRow(Protocol):
    """A proposal about an agent or a repository, according to its tags."""

    @property
    def number(self) -> int:
        """The number among the proposals of its subject."""

    @property
    def state(self) -> State:
        """The state of the proposal."""

    @property
    def commit(self) -> str:
        """The proposed commit."""

    @property
    def open(self) -> bool:
        """True if the proposal has not ended."""
