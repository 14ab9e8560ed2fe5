"""Whether the audit chain holds, and whether the tags are those that it tells of."""

from __future__ import annotations

import json
import sqlite3
from functools import partial

from hive_core.errors import HiveError
from hive_core.gate import story
from hive_core.gate.context import Workplace
from hive_core.gate.records import index
from hive_core.gate.records.states import IllegalHistory, State
from hive_core.infra.database import audit
from hive_core.infra.git.repository import Repository
from hive_core.protocol import AuditVerification

_MOST_PROBLEMS = 200


class Verifying:
    """Checks what the gate has written down against itself."""

    def __init__(self, place: Workplace) -> None:
        self._place = place

    async def verify(self) -> AuditVerification:
        """Look at every row and every tag. Transitions wait agent by agent while theirs are looked at."""
        place = self._place
        problems: list[str] = []
        count = 0
        found = story.agents(place.layout.applied)
        length, broken, subjects = await place.read(_chain)
        if broken is not None:
            problems.append(f"audit row {broken} does not fit the chain: it or a row before it was changed")
        for agent in sorted(found | subjects):
            async with place.locks[agent]:
                # Under the lock, where every tag has a row.
                expected = await place.read(partial(_told, agent=agent))
                if not expected and not place.layout.applied_repository(agent).exists():
                    continue  # It was purged.
                try:
                    tags, main = await place.with_repository(agent, _refs)
                    problems += [f"{agent}: {problem}" for problem in _compare(tags, expected)]
                    count += len(tags)
                    rows = await place.with_repository(agent, story.rows_of)
                except (HiveError, IllegalHistory, ValueError, OSError) as error:
                    problems.append(f"{agent}: its applied repository cannot be read: {error}")
                    continue
                indexed = await place.read(partial(index.of_agent, agent=agent))
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
        return AuditVerification(ok=not problems, rows=length, tags=count, problems=problems)


def _chain(db: sqlite3.Connection) -> tuple[int, int | None, set[str]]:
    """How many rows the audit table has, the first that does not fit, and the agents of which it tells tags."""
    (length,) = db.execute("SELECT count(*) FROM audit").fetchone()
    subjects = db.execute("SELECT DISTINCT subject FROM audit WHERE action LIKE 'gate.%' AND outcome = 'ok'")
    return int(length), audit.first_broken_row(db), {subject for (subject,) in subjects}


def _told(db: sqlite3.Connection, agent: str) -> dict[str, str]:
    """The tag objects of an agent of which the audit table tells, since its last purge."""
    told: dict[str, str] = {}
    query = """SELECT action, detail FROM audit WHERE subject = ? AND outcome = 'ok'
        AND (action = 'destroy' OR action LIKE 'gate.%') ORDER BY id"""
    for action, text in db.execute(query, (agent,)):
        try:
            detail = json.loads(text)
            if action != "destroy":
                told[detail["tag"]] = detail["object"]
            elif detail["purge"]:
                told.clear()
        except (ValueError, KeyError, TypeError):
            continue  # Tampered with: the chain says so.
    return told


def _refs(repository: Repository) -> tuple[dict[str, str], str | None]:
    return repository.tags(), repository.main()


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
