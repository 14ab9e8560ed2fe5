"""The audit table's endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hive_core.api.routes.system import audit_log
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.protocol import AuditList, AuditVerification
from hive_core.work.gate.pipeline.verify import VerifiedWork
from tests.unit.core.api.call_endpoint import Asking, asking, caller


class FakeVerification:
    """Finds one problem."""

    async def verify(self) -> AuditVerification:
        return AuditVerification(ok=False, rows=3, tags=1, problems=["row 2 was changed"])


class FakeWorkVerification:
    """Finds one problem with work."""

    async def verify(self) -> VerifiedWork:
        return VerifiedWork(tags=2, problems=["tag built/1 is gone"])


@pytest.fixture
async def operator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asking]:
    """The operator, in a hive whose table has three rows."""
    directory = tmp_path_factory.mktemp("a")
    database = await Database.open(directory / "hive.sqlite")
    running = asyncio.create_task(database.run())
    for number, subject in enumerate(("ada", "bob", "ada"), 1):
        detail = {"n": number}
        await database.write(partial(audit.append, actor="operator:x", action="stop", subject=subject, detail=detail))
    gate = cast(Any, SimpleNamespace(verification=FakeVerification()))
    work_gate = cast(Any, SimpleNamespace(verification=FakeWorkVerification()))
    async with asking(audit_log(database, gate, work_gate), caller("operator", "operator"), directory) as one:
        yield one
    database.finish()
    await running
    await database.close()


async def numbers(operator: Asking, query: str = "") -> list[int]:
    reply = await operator.ask("GET", f"/v1/audit{query}")
    assert reply.status == 200, reply.json
    return [row.id for row in AuditList.model_validate(reply.json).rows]


async def test_rows(operator: Asking) -> None:
    """Rows come with the newest first, and the query says which."""
    assert await numbers(operator) == [3, 2, 1]
    assert await numbers(operator, "?subject=ada") == [3, 1]
    assert await numbers(operator, "?limit=1") == [3]
    assert await numbers(operator, "?before=3&limit=1") == [2]
    assert await numbers(operator, "?subject=zoe") == []
    first = (await operator.ask("GET", "/v1/audit?before=2")).json["rows"][0]
    assert (first["actor"], first["action"], first["subject"], first["outcome"]) == ("operator:x", "stop", "ada", "ok")
    assert first["detail"] == {"n": 1}
    assert len(first["hash"]) == 64


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?before=0", "?before=9223372036854775808", "?x=1"])
async def test_bad_queries(query: str, operator: Asking) -> None:
    """A query beyond the limits is refused."""
    reply = await operator.ask("GET", f"/v1/audit{query}")
    assert (reply.status, reply.code) == (400, "invalid_request")


async def test_verify(operator: Asking) -> None:
    """What both gates found is answered as it is: that something is wrong is no failure of the request."""
    reply = await operator.ask("GET", "/v1/audit/verify")
    assert reply.status == 200
    found = AuditVerification.model_validate(reply.json)
    assert found == AuditVerification(ok=False, rows=3, tags=3, problems=["row 2 was changed", "tag built/1 is gone"])
