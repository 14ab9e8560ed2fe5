"""Endpoints with which the operator looks into an agent's harness and steers it, and sorts its waiting messages.

The daemon passes the requests on to the harness, whose answers are the agent's words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from hive_core.agents import AgentRegistry, DeploymentManager
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.agents.harness_view import HarnessViews
from hive_core.api.routes.params import number_of
from hive_core.api.rules import EndpointRule
from hive_core.errors import HiveError, conflict
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.messaging import Broker
from hive_core.protocol import (
    MAX_REQUEST_BYTES,
    Answer,
    Done,
    HarnessView,
    Inbox,
    LoginAddress,
    LoginCodeRequest,
    ModelRequest,
    PeekQuery,
    Query,
    QueueEdit,
    QueueMove,
    QueueRemoval,
    Request,
    Transcript,
    TranscriptQuery,
    TurnList,
    TurnRequest,
    TurnsQuery,
)

_CONTROL = "/v1/agents/{name}/control"
_SOON = 20.0
_SEES, _ACTS = EndpointRule("viewer", "agent"), EndpointRule("operator", "agent")
_LET_GO_ON = ("resume", "retry")
"""Controls with which a person says that the cause of failures is mended."""
_LOGIN_SECONDS = 150.0
"""A harness waits 120 s until its program takes a code."""


def harness_control(
    agents: AgentRegistry,
    deployments: DeploymentManager,
    views: HarnessViews,
    database: Database,
    let_go_on: Callable[[str], Awaitable[bool]],
) -> list[Endpoint]:
    """Return the endpoints for the data and controls of harnesses.

    `let_go_on` passes an agent's calls of models on again, and returns True if they were stopped.
    """

    def running(call: ApiCall) -> str:
        """Return the agent's name; its view socket is usable then. Raises `unknown_agent`, `not_running`."""
        record = agents.record(call.path["name"])
        if agents.status(record.name).lifecycle not in ("running", "starting"):
            raise conflict(
                "not_running",
                f"{record.name} is {agents.status(record.name).lifecycle}, so its harness cannot be asked",
                f'start it with "hive-c0re start {record.name}"',
            )
        deployments.hold_view(record)
        return record.name

    def tells(path: str, summary: str, answer: type[Answer], query: type[Query] | None) -> Endpoint:
        async def handle(call: ApiCall) -> Answer:
            asked = {} if query is None else call.read(query).model_dump(exclude_none=True)
            return await views.ask(
                running(call), path or "state", answer, {key: str(value) for key, value in asked.items()}
            )

        where = f"{_CONTROL}/{path}" if path else _CONTROL
        return Endpoint("GET", where, summary, handle, answer, query=query, waits=True, load="follows", rule=_SEES)

    def takes(
        path: str, summary: str, body: type[Request] = Request, answer: type[Answer] = Done, seconds: float = _SOON
    ) -> Endpoint:
        async def handle(call: ApiCall) -> Answer:
            name, actor, wanted = running(call), call.caller.actor, call.read(body)
            detail = {"do": path} if isinstance(wanted, LoginCodeRequest) else {"do": path, **wanted.model_dump()}

            def record(db: sqlite3.Connection) -> None:
                audit.append(db, actor=actor, action="control", subject=name, detail=detail)

            # Written first: a harness can do what it is told and never say so.
            await database.write(record)
            if path in _LET_GO_ON and await let_go_on(name) and path == "resume":
                with suppress(HiveError):  # The agent may be paused besides, or not.
                    await views.order(name, path, wanted, answer, seconds)
                return answer.model_validate({})
            return await views.order(name, path, wanted, answer, seconds)

        return Endpoint("POST", f"{_CONTROL}/{path}", summary, handle, answer, body=body, rule=_ACTS)

    async def events(call: ApiCall) -> web.StreamResponse:
        name = running(call)
        response: web.StreamResponse | None = None
        try:
            async with views.follow(name, call.raw.headers.get("Last-Event-ID")) as flow:
                response = web.StreamResponse(
                    headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
                )
                await response.prepare(call.raw)
                with suppress(ConnectionError):  # A reader that hangs up is no error.
                    async for event in flow:
                        await response.write(event)
        except HiveError:
            # A harness that was killed: the stream ends, and its reader learns why when it comes back.
            if response is None:
                raise
        return response

    return [
        tells("", "What an agent's harness does, as it tells it", HarnessView, None),
        tells("turns", "An agent's turns, the newest first", TurnList, TurnsQuery),
        tells("transcript", "The transcript of a turn", Transcript, TranscriptQuery),
        Endpoint(
            "GET",
            f"{_CONTROL}/events",
            "What an agent's model says and does, as it happens",
            events,
            "text/event-stream",
            waits=True,
            load="follows",
            rule=_SEES,
        ),
        takes("cancel", "Stop the running turn, which is then held"),
        takes("retry", "Try a held or waiting turn again now", TurnRequest),
        takes("skip", "End a held or waiting turn: its messages count as handled", TurnRequest),
        takes("pause", "Let the agent begin no turn"),
        takes("resume", "Let a paused agent begin turns again"),
        takes("compact", "Compact the agent's conversation before its next turn"),
        takes("new-session", "Begin a new conversation with the next turn"),
        takes("model", "Choose the model and the effort from the next turn on", ModelRequest),
        takes("login", "Begin to log the agent's program in", Request, LoginAddress, _LOGIN_SECONDS),
        takes("code", "Give the code of the login to the agent's program", LoginCodeRequest, Done, _LOGIN_SECONDS),
    ]


def go_on_order(
    agents: AgentRegistry, deployments: DeploymentManager, views: HarnessViews
) -> Callable[[str], Awaitable[Done]]:
    """Return a function that tells an agent's harness to try again what the hive has refused.

    It raises HiveError if the harness cannot be reached.
    """

    async def order(name: str) -> Done:
        deployments.hold_view(agents.record(name))
        return await views.order(name, "go-on", Request(), Done, _SOON)

    return order


def message_queues(agents: AgentRegistry, broker: Broker) -> list[Endpoint]:
    """Return the endpoints for the messages that wait for an agent."""

    async def show(call: ApiCall) -> Inbox:
        return await broker.peek(agents.record(call.path["name"]).name, call.read(PeekQuery).limit)

    async def remove(call: ApiCall) -> Done:
        name, reason = agents.record(call.path["name"]).name, call.read(QueueRemoval).reason
        await broker.remove_waiting(name, number_of(call), reason, call.caller.actor)
        return Done()

    async def edit(call: ApiCall) -> Done:
        name, body = agents.record(call.path["name"]).name, call.read(QueueEdit).body
        await broker.edit_waiting(name, number_of(call), body, call.caller.actor)
        return Done()

    async def move(call: ApiCall) -> Done:
        name, before = agents.record(call.path["name"]).name, call.read(QueueMove).before
        await broker.move_waiting(name, number_of(call), before, call.caller.actor)
        return Done()

    queue = "/v1/agents/{name}/queue"
    one = f"{queue}/{{id}}"
    return [
        Endpoint(
            "GET",
            queue,
            "The messages that wait for an agent, in their order",
            show,
            Inbox,
            query=PeekQuery,
            load="heavy",
            rule=_SEES,
        ),
        Endpoint(
            "POST",
            f"{one}/remove",
            "Take a waiting message out of the queue",
            remove,
            Done,
            body=QueueRemoval,
            rule=_ACTS,
        ),
        Endpoint(
            "POST",
            f"{one}/edit",
            "Replace the text of a waiting message",
            edit,
            Done,
            body=QueueEdit,
            most_bytes=MAX_REQUEST_BYTES,
            rule=_ACTS,
        ),
        Endpoint("POST", f"{one}/move", "Move a waiting message", move, Done, body=QueueMove, rule=_ACTS),
    ]
