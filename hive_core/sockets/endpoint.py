"""One endpoint: what it takes and gives, and the frame in which every request is read, answered or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from hive_core.errors import HiveError, bad_request
from hive_core.protocol import MAX_REQUEST_BYTES, Answer, ErrorAnswer, ErrorBody, Query, Request

log = structlog.get_logger(__name__)

_SHOWN_FAULTS = 5

_NO_QUERY = Query()

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Caller:
    """Who speaks, as the socket tells. `actor` is how the audit table names them."""

    name: str
    kind: Literal["agent", "manager", "operator"]
    actor: str


@dataclass(frozen=True)
class Call:
    """One request that has passed its endpoint's models."""

    caller: Caller
    path: dict[str, str]
    query: Query
    body: Request | None
    raw: web.Request

    def read(self, model: type[M]) -> M:
        """The body or query as `model`, which the endpoint has declared."""
        for part in (self.body, self.query):
            if isinstance(part, model):
                return part
        raise TypeError(f"the endpoint does not declare {model.__name__}")


Handler = Callable[[Call], Awaitable[Answer | web.StreamResponse]]
Identify = Callable[[web.Request], Caller]
Refused = Callable[[Caller, str, HiveError], Awaitable[None]]
Timed = Callable[[str, int, float], None]


@dataclass(frozen=True)
class Endpoint:
    """`answer` is a model, or the media type of an answer that is not JSON.

    `waits` marks a long poll: it is given up when the caller hangs up, while other requests are carried out to
    their end. `manager_only` endpoints are refused on every other agent's socket.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    handler: Handler
    answer: type[Answer] | str
    body: type[Request] | None = None
    query: type[Query] | None = None
    waits: bool = False
    manager_only: bool = False


@dataclass(frozen=True)
class Frame:
    """What is done around every handler of a socket: identify, check, call, tell of refusals, measure."""

    identify: Identify
    refused: Refused
    timed: Timed

    def application(self, endpoints: list[Endpoint]) -> web.Application:
        """An application that answers `endpoints`, and everything else in the protocol's error shape."""
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        for endpoint in endpoints:
            application.router.add_route(endpoint.method, endpoint.path, self._answering(endpoint))
        # Resources match in the order they were added: what comes here has a wrong method or an unknown path.
        for path in dict.fromkeys(endpoint.path for endpoint in endpoints):
            allowed = sorted(endpoint.method for endpoint in endpoints if endpoint.path == path)
            # RFC 9110: an answer 405 says which methods there are.
            refusing = self._refusing(_wrong_method(allowed), {"Allow": ", ".join(allowed)})
            application.router.add_route("*", path, refusing)
        application.router.add_route("*", "/{anything:.*}", self._refusing(_unknown_path()))
        return application

    def _answering(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        clock = asyncio.get_running_loop().time

        async def handle(request: web.Request) -> web.StreamResponse:
            started = clock()
            response = await self._respond(request, partial(_carry_out, endpoint))
            self.timed(endpoint.path, response.status, clock() - started)
            return response

        return handle

    def _refusing(
        self, error: HiveError, headers: Mapping[str, str] | None = None
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def refuse(_: Caller, __: web.Request) -> web.StreamResponse:
            raise error

        async def handle(request: web.Request) -> web.StreamResponse:
            response = await self._respond(request, refuse)
            response.headers.update(headers or {})
            return response

        return handle

    async def _respond(
        self, request: web.Request, answer: Callable[[Caller, web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        caller: Caller | None = None
        try:
            caller = self.identify(request)
            return await answer(caller, request)
        except HiveError as error:
            refusal = error
        except web.HTTPRequestEntityTooLarge:
            refusal = HiveError(
                "request_too_large",
                f"the request has more than {MAX_REQUEST_BYTES} bytes",
                hint="a message's body may have 256 KiB",
                status=413,
            )
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            log.exception("request failed", path=request.path)
            refusal = HiveError("internal", "the daemon failed on this request", hint="see its log", status=500)
        if caller is not None:
            # In ASCII: a path may hold what can be neither printed nor stored.
            await self.refused(caller, ascii(f"{request.method} {request.path}")[1:-1], refusal)
        return _error_response(refusal)


async def _carry_out(endpoint: Endpoint, caller: Caller, request: web.Request) -> web.StreamResponse:
    if endpoint.manager_only and caller.kind != "manager":
        raise HiveError("manager_only", "only the manager may do this", hint="ask hm1nd: send it a message", status=403)
    query = _parsed_query(endpoint.query or Query, request) if endpoint.query or request.query_string else _NO_QUERY
    body = _parsed_body(endpoint.body, await request.read()) if endpoint.body else None
    call = Call(caller, dict(request.match_info), query, body, request)
    if endpoint.waits:
        answer = await endpoint.handler(call)
    else:
        answer = await asyncio.shield(asyncio.ensure_future(endpoint.handler(call)))
    if isinstance(answer, web.StreamResponse):
        return answer
    return web.Response(body=answer.__pydantic_serializer__.to_json(answer), content_type="application/json")


def _error_response(error: HiveError) -> web.Response:
    answer = ErrorAnswer(error=ErrorBody(code=error.code, message=error.message, hint=error.hint))
    return web.Response(body=answer.model_dump_json().encode(), status=error.status, content_type="application/json")


def _parsed_body(model: type[Request], text: bytes) -> Request:
    try:
        return model.model_validate_json(text or b"{}")
    except ValidationError as error:
        raise _invalid(error, "body") from None


def _parsed_query(model: type[Query], request: web.Request) -> Query:
    if len(request.query) > len(set(request.query)):
        raise bad_request("a query parameter is given twice", "give each at most once")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise _invalid(error, "query") from None


def _invalid(error: ValidationError, part: str) -> HiveError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = [f"{_place(part, fault['loc'])}: {fault['msg']}" for fault in found[:_SHOWN_FAULTS]]
    if len(found) > _SHOWN_FAULTS:
        texts.append(f"and {len(found) - _SHOWN_FAULTS} more")
    if found[0]["type"] == "bad_name":
        return HiveError("bad_name", texts[0], hint="1 to 9 characters a-z and 0-9, a letter first")
    return bad_request("; ".join(texts), "the forms are described in /v1/openapi.json")


def _place(part: str, location: Sequence[int | str]) -> str:
    return ".".join([part, *(ascii(step)[1:-1] if isinstance(step, str) else str(step) for step in location)])[:200]


def _wrong_method(allowed: Sequence[str]) -> HiveError:
    return HiveError("method_not_allowed", "this path is not used so", hint=f"use {' or '.join(allowed)}", status=405)


def _unknown_path() -> HiveError:
    return HiveError("not_found", "there is nothing at this path", hint="see /v1/openapi.json", status=404)
