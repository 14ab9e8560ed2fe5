"""Whether the audit chain holds, and whether the tags are those that it tells of."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial

from hive_core import audit
from hive_core.errors import HiveError
from hive_core.gate import index, story
from hive_core.gate.states import IllegalHistory, State
from hive_core.gate.workplace import Workplace
from hive_core.git.repository import Repository
from hive_core.protocol import AuditVerification

_MOST_PROBLEMS = 200


@dataclass
class _Told:
    """What the audit table says: the tag objects of each agent, since its last purge."""

    rows: int = 0
    broken: int | None = None
    tags: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))


class Verifying:
    """Checks what the gate has written down against itself."""

    def __init__(self, place: Workplace) -> None:
        self._place = place

    async def verify(self) -> AuditVerification:
        """Look at every row and every tag. Transitions wait agent by agent while theirs are looked at."""
        place = self._place
        problems: list[str] = []
        count = 0
        found = {path.name.removesuffix(".git") for path in place.layout.applied.glob("*.git")}
        told = await place.read(_told)
        if told.broken is not None:
            problems.append(f"audit row {told.broken} does not fit the chain: it or a row before it was changed")
        for agent in sorted(found | set(told.tags)):
            async with place.locks[agent]:
                # Read again under the lock: what happened meanwhile has a row and a tag.
                expected = (await place.read(_told)).tags.get(agent, {})
                try:
                    tags, main, rows = await place.with_repository(agent, _look)
                except (HiveError, IllegalHistory, ValueError, OSError) as error:
                    problems.append(f"{agent}: its applied repository cannot be read: {error}")
                    continue
                indexed = await place.read(partial(index.of_agent, agent=agent))
            count += len(tags)
            problems += [f"{agent}: {problem}" for problem in _compare(tags, expected)]
            newest = max(
                (row for row in rows if row.state is State.DEPLOYED and row.kind != "destroy"),
                key=lambda row: row.number,
                default=None,
            )
            if main != (None if newest is None else newest.sha):
                problems.append(f"{agent}: main is at {main}, the newest deployment at {newest and newest.sha}")
            if indexed != rows:
                problems.append(
                    f"{agent}: the index tells otherwise than the tags: hive-c0re proposals reindex mends it"
                )
        if len(problems) > _MOST_PROBLEMS:
            left = len(problems) - _MOST_PROBLEMS
            problems = [*problems[:_MOST_PROBLEMS], f"and {left} problems more"]
        return AuditVerification(ok=not problems, rows=told.rows, tags=count, problems=problems)


def _told(db: sqlite3.Connection) -> _Told:
    told = _Told(broken=audit.first_broken_row(db))
    query = "SELECT action, subject, outcome, detail FROM audit ORDER BY id"
    for action, subject, outcome, text in db.execute(query):
        told.rows += 1
        if outcome != "ok" or not (action == "destroy" or action.startswith("gate.")):
            continue
        detail = json.loads(text)
        if action == "destroy":
            if detail.get("purge"):
                told.tags.pop(subject, None)
        else:
            told.tags[subject][detail["tag"]] = detail["object"]
    return told


def _look(repository: Repository) -> tuple[dict[str, str], str | None, list[index.Row]]:
    return repository.tags(), repository.main(), story.rows(repository.read_tags(None))


def _compare(tags: dict[str, str], expected: dict[str, str]) -> list[str]:
    problems = []
    for name in sorted(tags.keys() | expected.keys()):
        here, told = tags.get(name), expected.get(name)
        if here is None:
            problems.append(f"tag {name} is gone, the audit table tells of it")
        elif told is None:
            problems.append(f"the audit table does not know the tag {name}")
        elif here != told:
            problems.append(f"tag {name} was moved: the audit table tells of object {told}, it is {here}")
    return problems
