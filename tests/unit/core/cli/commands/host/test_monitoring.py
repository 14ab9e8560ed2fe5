"""`hive-c0re audit`: reading and checking the audit table."""

from __future__ import annotations

from hive_core.protocol import AuditList, AuditQuery, AuditRow, AuditVerification
from tests.unit.core.cli.fake_host_api import FakeHost, ago
from tests.unit.core.cli.run_cli import Program


def row(number: int, **changes: object) -> AuditRow:
    fields: dict[str, object] = {
        "id": number, "at": ago(minutes=1), "actor": "operator:root", "action": "approve", "subject": "ada",
        "outcome": "ok", "detail": {"number": 3}, "hash": "f" * 64,
    }  # fmt: skip
    return AuditRow.model_validate(fields | changes)


async def test_show(hive: Program, daemon: FakeHost) -> None:
    """`audit show` has a line for each row, and nothing in it can act on a terminal."""
    daemon.gate.rows = [row(12), row(11, actor="agent:ada", outcome="own_proposal", subject="x\x1b[2J\ny", detail={})]
    ended = await hive.run("audit", "show")
    assert (ended.code, ended.err) == (0, "")
    header, first, second = ended.out.splitlines()
    assert header.split() == ["ID", "AT", "ACTOR", "ACTION", "SUBJECT", "OUTCOME", "DETAIL"]
    assert first.split()[0] == "12"
    assert first.split()[4:] == ["operator:root", "approve", "ada", "ok", '{"number":', "3}"]
    assert first.split()[3] and second.split()[4:] == ["agent:ada", "approve", "x\\x1b[2J\\ny", "own_proposal"]
    assert daemon.asked == [("GET", "/v1/audit", AuditQuery())]


async def test_show_a_part(hive: Program, daemon: FakeHost) -> None:
    """Its options say which rows; --json is the daemon's answer."""
    daemon.gate.rows = [row(3)]
    ended = await hive.run("audit", "show", "--subject", "ada", "--limit", "5", "--before", "9", "--json")
    assert AuditList.model_validate(ended.json).rows == daemon.gate.rows
    assert daemon.asked == [("GET", "/v1/audit", AuditQuery(subject="ada", limit=5, before=9))]


async def test_show_nothing(hive: Program, daemon: FakeHost) -> None:
    """That there are no rows is said, but not on stdout."""
    ended = await hive.run("audit", "show", "--subject", "zoe")
    assert (ended.code, ended.out, ended.err) == (0, "", "no rows to show\n")


async def test_verify(hive: Program, daemon: FakeHost) -> None:
    """`audit verify` ends with 0 if all holds."""
    ended = await hive.run("audit", "verify")
    assert (ended.code, ended.out, ended.err) == (0, "no problems: 12 rows, 5 tags\n", "")


async def test_verify_finds_something(hive: Program, daemon: FakeHost) -> None:
    """If anything is wrong it ends with 1, and each problem is a line; with --json the answer says it."""
    problems = ["row 3 was changed\x1b[2J\n", "the tag built/3 of ada was moved"]
    daemon.gate.verification = AuditVerification(ok=False, rows=12, tags=5, problems=problems)
    ended = await hive.run("audit", "verify")
    assert (ended.code, ended.out) == (1, "row 3 was changed\\x1b[2J\\n\nthe tag built/3 of ada was moved\n")
    assert "the audit log or the tags have been changed; checked: 12 rows and 5 tags" in ended.err
    ended = await hive.run("audit", "verify", "--json")
    assert (ended.code, ended.err) == (1, "")
    assert AuditVerification.model_validate(ended.json) == daemon.gate.verification
