"""What the tags of one applied repository tell, as rows of the index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from hive_core.gate import texts
from hive_core.gate.records import index
from hive_core.gate.records.index import Row
from hive_core.gate.records.states import IllegalHistory, State, current
from hive_core.gate.tagnames import ENDORSED, in_tag, tag_of
from hive_core.git.tags import Tag
from hive_core.infra.git.repository import Repository


def agents(applied: Path) -> set[str]:
    """Every agent that has an applied repository in the directory of all, there or not."""
    return {path.name.removesuffix(".git") for path in applied.glob("*.git")}


def states(names: Iterable[str]) -> dict[int, set[State]]:
    """The states that each proposal has been in, from the names of tags. Raises IllegalHistory for other names."""
    found: defaultdict[int, set[State]] = defaultdict(set)
    for name in names:
        told = in_tag(name)
        if told is None:
            raise IllegalHistory(f"{name} is no tag of the gate")
        state, number = told
        if state is not None:
            found[number].add(state)
    return dict(found)


def furthest(names: Mapping[str, object] | set[str], number: int, reached: set[State]) -> str:
    """The tag that tells the present of a proposal. Raises IllegalHistory for states that no run leaves behind."""
    state = current(reached)
    endorsed = tag_of(ENDORSED, number)
    return endorsed if state is State.BUILT and endorsed in names else tag_of(state, number)


def rows(tags: Iterable[Tag]) -> list[Row]:
    """The index of all proposals in these tags. Raises IllegalHistory, and ValueError for texts of another's."""
    by_name = {tag.name: tag for tag in tags}
    made = []
    for number, reached in sorted(states(by_name).items()):
        tag = by_name[furthest(by_name, number, reached)]
        born = by_name[tag_of(State.PROPOSAL, number)]
        data = texts.read(tag.message)
        made.append(index.row(data, tag.target, created_at=born.when * 1_000, changed_at=tag.when * 1_000))
    return made


def rows_of(repository: Repository) -> list[Row]:
    """The same from all tags that there are."""
    return rows(repository.read_tags())
