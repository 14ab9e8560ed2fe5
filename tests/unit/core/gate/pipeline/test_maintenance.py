"""What is written down three times (tags, index, audit table) is held against each other, and mended from the tags."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from hive_core.errors import HiveError
from hive_core.gate.records import index
from tests.unit.core.gate.gate_hive import GateHive, git

Tamper = Callable[[sqlite3.Connection], object]

GATE_ROW = "(SELECT min(id) FROM audit WHERE action = 'gate.built')"


def changed(db: sqlite3.Connection) -> None:
    db.execute(f"UPDATE audit SET actor = 'eve' WHERE id = {GATE_ROW}")


def changed_beyond_reading(db: sqlite3.Connection) -> None:
    db.execute(f"UPDATE audit SET detail = 'no JSON' WHERE id = {GATE_ROW}")


def removed(db: sqlite3.Connection) -> None:
    db.execute(f"DELETE FROM audit WHERE id = {GATE_ROW}")


def inserted(db: sqlite3.Connection) -> None:
    (last,) = db.execute("SELECT max(id) FROM audit").fetchone()
    db.execute(
        """INSERT INTO audit SELECT ?, at, actor, action, subject, outcome, detail, hash, hash FROM audit
        WHERE id = ?""",
        (last + 1, last),
    )


def reordered(db: sqlite3.Connection) -> None:
    (first,) = db.execute(f"SELECT {GATE_ROW}").fetchone()
    for old, new in ((first, -1), (first + 1, first), (-1, first + 1)):
        db.execute("UPDATE audit SET id = ? WHERE id = ?", (new, old))


@pytest.mark.parametrize("tamper", [changed, changed_beyond_reading, removed, inserted, reordered])
async def test_tampering_with_the_audit_table_is_found(gate_hive: GateHive, tamper: Tamper) -> None:
    """A row that was changed, removed, inserted or moved breaks the chain, and the first such row is named."""
    assert (await gate_hive.gate.verification.verify()).ok
    await gate_hive.database.write(tamper)
    found = await gate_hive.gate.verification.verify()
    assert not found.ok
    assert "does not fit the chain" in found.problems[0]


async def test_rows_cut_off_at_the_end_are_found(gate_hive: GateHive) -> None:
    """The chain alone cannot tell that its end is missing; the tags can."""
    await gate_hive.deploy("ada")
    await gate_hive.database.write(lambda db: db.execute("DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)"))
    assert (await gate_hive.gate.verification.verify()).problems == [
        "ada: the audit table does not know the tag deployed/1"
    ]


async def test_tampering_with_the_tags_is_found(gate_hive: GateHive) -> None:
    """A tag that was moved, deleted or added is named, and so is main where no deployment put it."""
    await gate_hive.deploy("ada", "first")
    await gate_hive.built("ada", "second")
    place = gate_hive.layout.applied_repository("ada")
    tags = gate_hive.repository("ada").tags()
    main = gate_hive.main("ada") or ""
    assert (await gate_hive.gate.verification.verify()).ok

    git(place, "update-ref", "refs/tags/built/2", tags["built/1"])
    assert any("built/2 was moved" in problem for problem in (await gate_hive.gate.verification.verify()).problems)
    git(place, "update-ref", "refs/tags/built/2", tags["built/2"])

    git(place, "update-ref", "-d", "refs/tags/built/2")
    problems = (await gate_hive.gate.verification.verify()).problems
    assert "ada: tag built/2 is gone, the audit table tells of it" in problems
    git(place, "update-ref", "refs/tags/built/2", tags["built/2"])

    git(place, "tag", "--annotate", "--message", "mine", "approved/2", main)
    assert not (await gate_hive.gate.verification.verify()).ok
    git(place, "update-ref", "-d", "refs/tags/approved/2")

    git(place, "update-ref", "refs/heads/main", f"{main}~1")
    assert [problem.split(",")[0] for problem in (await gate_hive.gate.verification.verify()).problems] == [
        f"ada: main is at {git(place, 'rev-parse', f'{main}~1')}"
    ]
    git(place, "update-ref", "refs/heads/main", main)
    await gate_hive.check()


async def test_a_repository_that_is_gone_is_found(gate_hive: GateHive) -> None:
    """An agent whose repository somebody removed is named, and the others are looked at all the same."""
    place = gate_hive.layout.applied_repository("ada")
    place.rename(place.with_name("aside"))
    problems = (await gate_hive.gate.verification.verify()).problems
    assert len(problems) == 1 and problems[0].startswith("ada: its applied repository cannot be read")
    place.with_name("aside").rename(place)


async def test_the_index_is_made_anew(gate_hive: GateHive) -> None:
    """From the tags alone come the same rows, whether the table was empty or wrong."""
    await gate_hive.deploy("ada")
    await gate_hive.built("ada", "second")
    await gate_hive.deny("ada", 2)
    await gate_hive.built("bob")
    rows = await gate_hive.rows()
    assert (await gate_hive.gate.maintenance.reindex()).changed == 0
    await gate_hive.database.write(lambda db: db.execute("DELETE FROM proposals"))
    assert not (await gate_hive.gate.verification.verify()).ok
    answer = await gate_hive.gate.maintenance.reindex()
    assert (answer.subjects, answer.proposals, answer.changed) == (3, len(rows), len(rows))
    assert await gate_hive.rows() == rows
    await gate_hive.database.write(lambda db: db.execute("UPDATE proposals SET note = 'x', state = 'denied'"))
    stray = rows[0].__class__(**{**rows[0].__dict__, "agent": "gone"})
    await gate_hive.database.write(lambda db: index.upsert(db, stray))
    assert (await gate_hive.gate.maintenance.reindex()).changed == len(rows) + 1
    assert await gate_hive.rows() == rows
    await gate_hive.check()


async def test_an_agent_that_is_purged_meanwhile_has_no_rows(
    gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that is gone when it comes to it does not keep the others from being indexed."""
    listed = index.agents_with_repository(gate_hive.layout.applied)
    gate_hive.layout.applied_repository("bob").rename(gate_hive.layout.applied / "aside")
    monkeypatch.setattr(index, "agents_with_repository", lambda _applied: set(listed))
    answer = await gate_hive.gate.maintenance.reindex()
    assert answer.subjects == len(listed) - 1
    assert await gate_hive.rows("bob") == []
    assert await gate_hive.rows("ada") != []


async def test_an_agent_that_is_spawned_meanwhile_keeps_its_rows(
    gate_hive: GateHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that did not exist when the repositories were listed is not taken for one that was removed."""
    rows = await gate_hive.rows("bob")
    listed = index.agents_with_repository(gate_hive.layout.applied) - {"bob"}
    monkeypatch.setattr(index, "agents_with_repository", lambda _applied: set(listed))
    await gate_hive.gate.maintenance.reindex()
    assert await gate_hive.rows("bob") == rows != []


async def test_one_damaged_repository_does_not_keep_the_others_from_being_indexed(gate_hive: GateHive) -> None:
    """The others' rows are made anew, and the refusal names the one that cannot be read."""
    rows = await gate_hive.rows("bob")
    git(gate_hive.layout.applied_repository("ada"), "tag", "--annotate", "--message", "mine", "stray", "main")
    await gate_hive.database.write(lambda db: db.execute("DELETE FROM proposals WHERE agent = 'bob'"))
    with pytest.raises(HiveError) as refusal:
        await gate_hive.gate.maintenance.reindex()
    assert refusal.value.code == "repository_damaged" and "ada" in refusal.value.message
    assert await gate_hive.rows("bob") == rows
