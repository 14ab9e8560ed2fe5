"""Endpoints of health, status, metrics, events and the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from aiohttp import web

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.rules import PUBLIC, EndpointRule
from hive_core.errors import bad_request
from hive_core.gate.gate import Gate
from hive_core.infra.database import audit
from hive_core.infra.database.copies import DatabaseCopies
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.people.ownership.seen_events import seen_event
from hive_core.people.ownership.sight import Sight, seen_rows
from hive_core.protocol import (
    AuditList,
    AuditQuery,
    AuditVerification,
    DatabaseCopy,
    DatabaseIdentity,
    Event,
    EventsQuery,
    Health,
    HiveStatus,
)
from hive_core.work.gate.gate import WorkGate

_EVENT_STREAM = "text/event-stream"
_PROMETHEUS = "text/plain"
_FILTERED = EndpointRule("viewer", "listing")


def hive_status(
    status: Callable[[Sight], Awaitable[HiveStatus]],
    alive: Callable[[], Awaitable[None]],
    figures: Callable[[], bytes],
    events: EventHub,
) -> list[Endpoint]:
    """Return the endpoints of health, metrics, status and events.

    `alive` raises if the database writer does not work; `figures` returns the Prometheus text."""

    async def health(_: ApiCall) -> Health:
        await alive()
        return Health()

    async def metrics(_: ApiCall) -> web.StreamResponse:
        return web.Response(body=figures(), content_type=_PROMETHEUS, charset="utf-8")

    async def tell_status(call: ApiCall) -> HiveStatus:
        return await status(call.caller.sees)

    async def flow(call: ApiCall) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _EVENT_STREAM, "Cache-Control": "no-store"})
        after = _resume_after(call)
        start = events.last_id if after is None else min(after, events.last_id)
        sees = call.caller.sees
        with events.reader(after, None if sees.whole else partial(seen_event, sees)) as reading:
            await response.prepare(call.raw)
            # So that a reader knows at once that it is connected, and where to go on if that breaks off before the
            # first event: where this stream starts, not at what is the newest by now.
            await response.write(f": connected\nid: {start}\n\n".encode())
            # A reader that hangs up is no error.
            with suppress(ConnectionError):
                async for event in reading:
                    await response.write(_as_event_stream(event))
        return response

    return [
        Endpoint("GET", "/healthz", "Check that the daemon works", health, Health, rule=PUBLIC),
        Endpoint("GET", "/metrics", "Metrics for Prometheus", metrics, _PROMETHEUS, rule=EndpointRule("admin")),
        Endpoint("GET", "/v1/status", "The status of the daemon", tell_status, HiveStatus, rule=_FILTERED),
        Endpoint(
            "GET",
            "/v1/events",
            "Events as they happen",
            flow,
            _EVENT_STREAM,
            query=EventsQuery,
            waits=True,
            load="follows",
            rule=_FILTERED,
        ),
    ]


def database_copies(copies: DatabaseCopies, database: Database, layout: Layout) -> list[Endpoint]:
    """Return the endpoints for backups of a hive whose daemon runs."""

    async def identity(_: ApiCall) -> DatabaseIdentity:
        agents = await database.read(lambda db: dict(db.execute("SELECT name, created_at FROM agents").fetchall()))
        return DatabaseIdentity(state_dir=str(layout.state_dir), agents=agents)

    async def copy(_: ApiCall) -> DatabaseCopy:
        return DatabaseCopy(file=await copies.make())

    return [
        Endpoint("GET", "/v1/database", "The hive that this daemon serves", identity, DatabaseIdentity),
        Endpoint("POST", "/v1/database/copy", "Copy the database for a backup", copy, DatabaseCopy),
    ]


def _as_event_stream(event: Event | None) -> bytes:
    """Return one event as a server-sent event of the HTML standard; a comment for None."""
    if event is None:
        return b": nothing new\n\n"
    return f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()


def _resume_after(call: ApiCall) -> int | None:
    header = call.raw.headers.get("Last-Event-ID")
    if header is None:
        return call.read(EventsQuery).after
    if not (header.isascii() and header.isdigit() and len(header) < 20):
        raise bad_request("the Last-Event-ID header is no event id", "send the id of the last event that you saw")
    return int(header)


def audit_log(database: Database, gate: Gate, work_gate: WorkGate) -> list[Endpoint]:
    """Return the endpoints to read the audit table and to verify its chain and the tags."""

    async def rows(call: ApiCall) -> AuditList:
        query, caller = call.read(AuditQuery), call.caller
        seen = None if caller.sees.whole else seen_rows(caller.sees, caller.actor)
        found = await database.scan(
            lambda db: audit.rows(db, subject=query.subject, limit=query.limit, before=query.before, seen=seen)
        )
        return AuditList(rows=found)

    async def verify(_: ApiCall) -> AuditVerification:
        found, of_work = await gate.verification.verify(), await work_gate.verification.verify()
        problems = [*found.problems, *of_work.problems]
        return AuditVerification(ok=not problems, rows=found.rows, tags=found.tags + of_work.tags, problems=problems)

    return [
        Endpoint(
            "GET",
            "/v1/audit",
            "Rows of the audit table, the newest first",
            rows,
            AuditList,
            query=AuditQuery,
            load="heavy",
            rule=_FILTERED,
        ),
        Endpoint(
            "GET",
            "/v1/audit/verify",
            "Verify the audit table",
            verify,
            AuditVerification,
            load="heavy",
            rule=EndpointRule("admin"),
        ),
    ]
