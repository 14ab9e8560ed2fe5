"""The facts in the tags of a proposal beside its row, for proposals of any subject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from hive_core.gate.records.states import State
from hive_core.gate.subject.row import SubjectRow
from hive_core.infra.git.repository import Repository


class _Prunable(Protocol):
    @property
    def pruned(self) -> str | None: ...


T = TypeVar("T")


def read_results(repository: Repository, row: SubjectRow, parse: Callable[[str], T]) -> T | None:
    """Return the data of the tag `built/N`, or of `failed/N` without that; None if there is neither."""
    if row.state in (State.PROPOSAL, State.BUILDING):
        return None
    tags = repository.read_tags([f"built/{row.number}", f"failed/{row.number}"])
    return next((parse(tag.message) for tag in tags), None)


def is_pruned(repository: Repository, row: SubjectRow, parse: Callable[[str], _Prunable]) -> bool:
    """Return True if the files of an ended proposal were removed."""
    if row.open or row.state is State.DEPLOYED:
        return False
    tags = repository.read_tags([f"{row.state}/{row.number}"])
    return any(parse(tag.message).pruned is not None for tag in tags)
