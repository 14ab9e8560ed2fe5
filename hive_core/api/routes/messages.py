"""Endpoints for messages."""

from __future__ import annotations

from hive_core.api.endpoint import MOST_VALUES_WITH_IDS, ApiCall, Endpoint
from hive_core.api.routes.params import number_of
from hive_core.api.rules import EndpointRule
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.messaging import Broker
from hive_core.messaging.person_inbox import PersonReader
from hive_core.protocol import (
    MAX_REQUEST_BYTES,
    AckRequest,
    Inbox,
    InboxAnswer,
    InboxQuery,
    LeaseAnswer,
    LeaseRequest,
    MarkReadRequest,
    PeekQuery,
    ReceiveAnswer,
    ReceiveRequest,
    ReplyAnswer,
    SendAnswer,
    SendRequest,
    WaitQuery,
    WakeRequest,
)
from hive_core.protocol.names import OPERATOR


def sent_messages(broker: Broker, database: Database) -> list[Endpoint]:
    """Return the endpoint with which every caller sends messages in its own name."""

    async def send(call: ApiCall) -> SendAnswer:
        caller, request = call.caller, call.read(SendRequest)
        if caller.kind != "person":
            return await broker.send(caller.name, request)
        sent = await broker.send(OPERATOR, request, PersonReader(caller.name, caller.sees))
        if not sent.duplicate:
            detail = {"message": sent.id}
            await database.write(
                lambda db: audit.append(db, actor=caller.actor, action="send", subject=request.to, detail=detail)
            )
        return sent

    # Cancelled when the caller hangs up, because the broker stores every accepted message anyway.
    path = "/v1/messages"
    return [
        Endpoint(
            "POST",
            path,
            "Send a message",
            send,
            SendAnswer,
            body=SendRequest,
            waits=True,
            most_bytes=MAX_REQUEST_BYTES,
            rule=EndpointRule("operator", "listing"),
        )
    ]


def message_leases(broker: Broker) -> list[Endpoint]:
    """Return the endpoints with which a harness leases and acknowledges messages."""

    async def receive(call: ApiCall) -> ReceiveAnswer:
        return await broker.receive(call.caller.name, call.read(ReceiveRequest))

    async def acknowledge(call: ApiCall) -> LeaseAnswer:
        request = call.read(AckRequest)
        return await broker.acknowledge(call.caller.name, request.instance, request.ids)

    async def release(call: ApiCall) -> LeaseAnswer:
        return await broker.release(call.caller.name, call.read(LeaseRequest))

    async def renew(call: ApiCall) -> LeaseAnswer:
        return await broker.renew(call.caller.name, call.read(LeaseRequest))

    base = "/v1/messages"
    return [
        Endpoint(
            "POST",
            f"{base}/receive",
            "Lease waiting messages, or wait for one",
            receive,
            ReceiveAnswer,
            body=ReceiveRequest,
            waits=True,
            most_values=MOST_VALUES_WITH_IDS,
        ),
        Endpoint(
            "POST",
            f"{base}/ack",
            "Acknowledge messages",
            acknowledge,
            LeaseAnswer,
            body=AckRequest,
            most_values=MOST_VALUES_WITH_IDS,
        ),
        Endpoint(
            "POST",
            f"{base}/release",
            "Release leases",
            release,
            LeaseAnswer,
            body=LeaseRequest,
            most_values=MOST_VALUES_WITH_IDS,
        ),
        Endpoint(
            "POST",
            f"{base}/renew",
            "Renew leases",
            renew,
            LeaseAnswer,
            body=LeaseRequest,
            most_values=MOST_VALUES_WITH_IDS,
        ),
    ]


def wake_messages(broker: Broker) -> list[Endpoint]:
    """Return the endpoints for programs beside the harness: send to their own agent, and look at its inbox."""

    async def wake(call: ApiCall) -> SendAnswer:
        request = call.read(WakeRequest)
        body = f"From {request.label}, a program in your container:\n\n{request.body}"
        return await broker.wake_self(call.caller.name, body, request.idempotency_key)

    async def peek(call: ApiCall) -> Inbox:
        return await broker.peek(call.caller.name, call.read(PeekQuery).limit)

    return [
        Endpoint(
            "POST",
            "/v1/wake",
            "Send to the agent itself",
            wake,
            SendAnswer,
            body=WakeRequest,
            waits=True,
            most_bytes=MAX_REQUEST_BYTES,
        ),
        Endpoint(
            "GET", "/v1/inbox", "The agent's inbox; nothing is leased", peek, Inbox, query=PeekQuery, load="heavy"
        ),
    ]


def operator_inbox(broker: Broker) -> list[Endpoint]:
    """Return the endpoints of the operator's inbox."""

    async def inbox(call: ApiCall) -> InboxAnswer:
        caller, query = call.caller, call.read(InboxQuery)
        if caller.kind != "person":
            return await broker.inbox(query)
        return await broker.inbox_of(PersonReader(caller.name, caller.sees), query)

    async def mark_read(call: ApiCall) -> LeaseAnswer:
        caller, ids = call.caller, call.read(MarkReadRequest).ids
        if caller.kind != "person":
            return await broker.mark_read(ids)
        return await broker.mark_read_by(PersonReader(caller.name, caller.sees), ids)

    async def reply(call: ApiCall) -> ReplyAnswer:
        person = call.caller.name if call.caller.kind == "person" else None
        return await broker.wait_reply(number_of(call), call.read(WaitQuery).wait_seconds, person)

    base = "/v1/messages"
    return [
        Endpoint(
            "GET",
            base,
            "The operator's messages",
            inbox,
            InboxAnswer,
            query=InboxQuery,
            load="heavy",
            rule=EndpointRule("viewer", "listing"),
        ),
        Endpoint(
            "POST",
            f"{base}/read",
            "Mark messages as read",
            mark_read,
            LeaseAnswer,
            body=MarkReadRequest,
            most_values=MOST_VALUES_WITH_IDS,
            rule=EndpointRule("operator", "own"),
        ),
        Endpoint(
            "GET",
            f"{base}/{{id}}/reply",
            "Wait for the answer to a message of the operator",
            reply,
            ReplyAnswer,
            query=WaitQuery,
            waits=True,
            rule=EndpointRule("operator", "reply"),
        ),
    ]
