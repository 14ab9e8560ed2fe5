"""Endpoints for the audit table: the operator's alone."""

from __future__ import annotations

from hive_core.api.endpoint import Call, Endpoint
from hive_core.gate.gate import Gate
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.protocol import AuditList, AuditQuery, AuditVerification


def auditing(database: Database, gate: Gate) -> list[Endpoint]:
    """Read the table; check its chain, and the tags against it."""

    async def rows(call: Call) -> AuditList:
        query = call.read(AuditQuery)
        found = await database.read(
            lambda db: audit.rows(db, subject=query.subject, limit=query.limit, before=query.before)
        )
        return AuditList(rows=found)

    async def verify(_: Call) -> AuditVerification:
        return await gate.verify()

    return [
        Endpoint("GET", "/v1/audit", "Who did or tried what, the newest first", rows, AuditList, query=AuditQuery),
        Endpoint("GET", "/v1/audit/verify", "Whether the audit table holds", verify, AuditVerification),
    ]
