"""Endpoints for agents' pages. An agent serves its page itself, so these are on the agent's socket."""

from __future__ import annotations

import sqlite3

from hive_core.agents import AgentRegistry, DeploymentManager, page_access
from hive_core.agents.page_access import TICKET_SECONDS, PageAccess, PageToken
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.layout import Layout
from hive_core.messaging import Broker, Questions
from hive_core.messaging.store import page_key
from hive_core.protocol import (
    MAX_REQUEST_BYTES,
    AnswerRequest,
    PageAnswerRequest,
    PageCheckRequest,
    PageEnterRequest,
    PageSendRequest,
    PageSession,
    PageTicket,
    Question,
    SendAnswer,
    SendRequest,
)
from hive_core.protocol.names import OPERATOR
from hive_core.protocol.pages import MAX_TYPED_BYTES

_PAGE = "/v1/page"


def page_tickets(
    agents: AgentRegistry, deployments: DeploymentManager, access: PageAccess, database: Database, layout: Layout
) -> list[Endpoint]:
    """Return the operator's endpoint for tickets to pages."""

    async def ticket(call: ApiCall) -> PageTicket:
        record = agents.record(call.path["name"])
        actor = call.caller.actor
        deployments.hold_view(record)
        # Made before the first wait: a destroy meanwhile then invalidates the ticket.
        made = access.ticket(record.name, actor)
        await database.write(lambda db: audit.append(db, actor=actor, action="page_ticket", subject=record.name))
        return PageTicket(
            ticket=made.secret,
            port=record.web_port,
            # The record is read again: the agent may have been destroyed or sealed meanwhile.
            held=deployments.hold_port(agents.record(record.name)),
            sealed=record.sealed,
            socket=str(layout.view_socket(record.name)),
            expires_in=TICKET_SECONDS,
        )

    path = "/v1/agents/{name}/page-tickets"
    return [Endpoint("POST", path, "A one-time ticket for an agent's page", ticket, PageTicket)]


def page_actions(access: PageAccess, broker: Broker, questions: Questions, database: Database) -> list[Endpoint]:
    """Return the endpoints of an agent's page. Tickets and sessions are valid for that agent only."""

    def session(entry: PageToken) -> PageSession:
        return PageSession(session=entry.secret, user=entry.user, expires_in=access.remaining(entry))

    async def enter(call: ApiCall) -> PageSession:
        name = call.caller.name
        entry = access.redeem_ticket(name, call.read(PageEnterRequest).ticket)

        def store(db: sqlite3.Connection) -> None:
            page_access.add_session(db, name, entry)
            audit.append(db, actor=entry.user, action="page_enter", subject=name)

        await database.write(store)
        return session(entry)

    async def check(call: ApiCall) -> PageSession:
        return session(access.check_session(call.caller.name, call.read(PageCheckRequest).session))

    async def send(call: ApiCall) -> SendAnswer:
        name, request = call.caller.name, call.read(PageSendRequest)
        size = len(request.body.encode())
        if size > MAX_TYPED_BYTES:
            raise HiveError(
                "body_too_large",
                f"what was typed has {size} bytes, at most {MAX_TYPED_BYTES} are allowed on a page",
                hint=f"send it with hive-c0re send {name}, or put it into a file and say where it is",
                status=413,
            )
        actor = _typed_by(access.refresh_session(name, request.session), name)
        key = page_key(name, request.idempotency_key)
        message = SendRequest.model_construct(
            to=name, body=request.body, reply_to=request.reply_to, idempotency_key=key
        )
        sent = await broker.send(OPERATOR, message)
        if not sent.duplicate:
            detail = {"message": sent.id}
            await database.write(
                lambda db: audit.append(db, actor=actor, action="page_send", subject=name, detail=detail)
            )
        return sent

    async def answer(call: ApiCall) -> Question:
        name, request = call.caller.name, call.read(PageAnswerRequest)
        actor = _typed_by(access.refresh_session(name, request.session), name)
        return await questions.answer(request.question, AnswerRequest(text=request.text), actor, agent=name)

    return [
        Endpoint(
            "POST", f"{_PAGE}/enter", "Exchange a ticket for a session", enter, PageSession, body=PageEnterRequest
        ),
        Endpoint("POST", f"{_PAGE}/check", "Check a session", check, PageSession, body=PageCheckRequest),
        Endpoint(
            "POST",
            f"{_PAGE}/send",
            "Send a message that the operator typed",
            send,
            SendAnswer,
            body=PageSendRequest,
            most_bytes=MAX_REQUEST_BYTES,
        ),
        Endpoint(
            "POST",
            f"{_PAGE}/answer",
            "Answer a question with what the operator typed",
            answer,
            Question,
            body=PageAnswerRequest,
        ),
    ]


def _typed_by(entry: PageToken, agent: str) -> str:
    """Return the name for the audit table of a person on a page, whose input has passed through the agent."""
    return f"{entry.user} on the page of {agent}"
