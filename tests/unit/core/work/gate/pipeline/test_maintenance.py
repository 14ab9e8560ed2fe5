"""Tags of work, index, audit table and mirror are compared, and the index is made anew from the tags."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hive_core.errors import HiveError
from hive_core.work.gate.pipeline import maintenance
from hive_core.work.gate.records import index
from tests.unit.core.work.gate.work_hive import ADA, BOB, WorkHive, git


async def problems(hive: WorkHive) -> list[str]:
    return (await hive.gate.verification.verify()).problems


async def land(hive: WorkHive) -> str:
    work = await hive.built({"a": "1"})
    await hive.approve(work.number)
    await hive.until(work.number, "deployed")
    return work.commit


async def test_tampering_with_tags_of_work_is_found(hive: WorkHive) -> None:
    """A tag of work that was moved, deleted or added is named; without tampering there is no problem."""
    await land(hive)
    place, tags = hive.layout.work_repository("web"), hive.work().tags()
    verified = await hive.gate.verification.verify()
    assert (verified.problems, verified.tags) == ([], len(tags))

    git(place, "update-ref", "refs/tags/built/1", tags["building/1"])
    assert any("work for web: tag built/1 was moved" in problem for problem in await problems(hive))
    git(place, "update-ref", "-d", "refs/tags/built/1")
    assert "work for web: tag built/1 is gone, the audit table tells of it" in await problems(hive)
    git(place, "update-ref", "refs/tags/built/1", tags["built/1"])
    git(place, "tag", "--annotate", "--message", "mine", "denied/1", hive.tip())
    assert "work for web: the audit table does not know the tag denied/1" in await problems(hive)
    git(place, "update-ref", "-d", "refs/tags/denied/1")
    assert await problems(hive) == []


async def test_lost_landings_are_found(hive: WorkHive) -> None:
    """A mirror that lacks what has landed, such as one restored from an older backup, is named with the work."""
    commit = await land(hive)
    mirror = hive.layout.mirror("web")
    git(mirror, "update-ref", "refs/heads/main", f"{commit}~1")
    git(mirror, "repack", "-a", "-d", "--quiet")
    git(mirror, "prune", "--expire=now")
    assert f"work for web: the mirror lacks {commit}, with which web/1 has landed" in await problems(hive)


async def test_work_repository_that_is_gone_is_found(hive: WorkHive) -> None:
    """Work whose repository somebody deleted is named; after a removal by the operator nothing is missed."""
    await land(hive)
    place = hive.layout.work_repository("web")
    place.rename(place.with_name("aside"))
    (problem,) = await problems(hive)
    assert problem.startswith("work for web: its work repository cannot be read")
    place.with_name("aside").rename(place)
    await hive.gate.forget_repository("web")
    assert await problems(hive) == []
    await land(hive)
    assert await problems(hive) == []


async def test_index_of_work_is_made_anew(hive: WorkHive) -> None:
    """From the tags alone come the same rows, whether the table was empty, wrong, or had rows of no repository."""
    await land(hive)
    await hive.built({"b": "2"})
    rows = await hive.rows()
    assert (await hive.gate.maintenance.reindex()).changed == 0
    await hive.database.write(lambda db: db.execute("DELETE FROM work"))
    assert any("proposals reindex mends it" in problem for problem in await problems(hive))
    done = await hive.gate.maintenance.reindex()
    assert (done.subjects, done.proposals, done.changed) == (1, 2, 2)
    assert await hive.rows() == rows
    await hive.database.write(lambda db: db.execute("UPDATE work SET state = 'denied'"))
    await hive.database.write(lambda db: index.upsert_all(db, [replace(rows[0], repo="gone")]))
    assert (await hive.gate.maintenance.reindex()).changed == 3
    assert await hive.rows() == rows
    await hive.check()


async def test_tags_that_are_not_the_gates_keep_no_index(hive: WorkHive) -> None:
    """A work repository with other tags is refused by its name."""
    await land(hive)
    place = hive.layout.work_repository("web")
    git(place, "tag", "--annotate", "--message", "mine", "proposal/7", hive.tip())
    with pytest.raises(HiveError, match="work repository of web") as refused:
        await hive.gate.maintenance.reindex()
    assert refused.value.code == "repository_damaged"


async def test_logs_of_one_party_are_bounded(hive: WorkHive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest logs of ended work go when a party has too many bytes of them; others' and open ones stay."""
    monkeypatch.setattr(maintenance, "_LOG_BYTES", 2_000)
    numbers = [(await hive.built({"a": str(count)}, party)).number for count, party in enumerate((ADA, ADA, ADA, BOB))]
    logs = {number: hive.layout.work_log("web", number) for number in numbers}
    logs[1].parent.mkdir(parents=True)
    for log in logs.values():
        log.write_bytes(b"x" * 900)
        log.with_name(f"{log.name}.1").write_bytes(b"x" * 900)
    await hive.gate.maintenance.trim_logs()
    assert all(log.exists() for log in logs.values())
    for number, party in zip(numbers[:2] + numbers[3:], (ADA, ADA, BOB), strict=True):
        await hive.withdraw(number, party)
    await hive.gate.maintenance.trim_logs()
    left = [number for number, log in logs.items() if log.exists()]
    assert left == numbers[1:] and not logs[1].with_name("1.log.1").exists()
