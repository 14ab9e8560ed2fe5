"""Dispatch of a request to its endpoint, and its answer or error as a response."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol, TypeVar
from urllib.parse import unquote

import structlog
from aiohttp import web

from hive_core.api.bodies import BodyParser, parsed_query
from hive_core.api.endpoint import ApiCall, Caller, Check, Endpoint, Identify, Refused, Timed
from hive_core.api.listener import request_begins, request_ends
from hive_core.api.responses import json_response
from hive_core.errors import HiveError, bad_request, not_found
from hive_core.infra.concurrency.fair_queue import FairQueue, QueueFull
from hive_core.infra.concurrency.tasks import finish_detached
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.storage.disk_space import disk_full, is_lack_of_space
from hive_core.protocol import ErrorAnswer, ErrorBody, Query, WrongField

T = TypeVar("T")
_log = structlog.get_logger(__name__)


_NO_PARAMETERS: Mapping[str, str] = {}


class WrongMethod(HiveError):
    """The error for a path that has other methods. `allowed` is for the `Allow` header (RFC 9110)."""

    def __init__(self, code: str, message: str, allowed: Sequence[str]) -> None:
        super().__init__(code, message, hint=f"use {' or '.join(allowed)}", status=405)
        self.allowed = ", ".join(allowed)


class Router:
    """Finds endpoints by method and path. `{x}` in an endpoint's path stands for one segment."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._fixed: dict[str, dict[str, Endpoint]] = defaultdict(dict)
        patterns: dict[str, dict[str, Endpoint]] = defaultdict(dict)
        for endpoint in endpoints:
            table = patterns if "{" in endpoint.path else self._fixed
            table[endpoint.path][endpoint.method] = endpoint
        self._patterns = [(_pattern(path), methods) for path, methods in patterns.items()]

    def find(self, method: str, raw_path: str) -> tuple[Endpoint, Mapping[str, str]]:
        """Return the endpoint and its decoded path parameters; raises `not_found` or `method_not_allowed`.

        `raw_path` is still percent-encoded, so that an encoded slash does not end a segment.
        """
        methods = self._fixed.get(raw_path)
        if methods is not None:
            return _choose(methods, method), _NO_PARAMETERS
        for pattern, methods in self._patterns:
            found = pattern.fullmatch(raw_path)
            if found:
                return _choose(methods, method), {name: unquote(value) for name, value in found.groupdict().items()}
        raise not_found("not_found", "there is nothing at this path", "see /v1/openapi.json")


def _choose(methods: Mapping[str, Endpoint], method: str) -> Endpoint:
    endpoint = methods.get(method)
    if endpoint is None:
        raise WrongMethod("method_not_allowed", "method not allowed for this path", sorted(methods))
    return endpoint


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"{(\w+)}", path)
    text = "".join(f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile(text)


_HEAVY_AT_ONCE = 2
_HEAVY_WAITING = 8
"""Heavy requests of a caller that wait for their turn; together with those in progress far fewer than the connections
that an agent has."""
_FOLLOWING = 8


class TooManyRequests(HiveError):
    """The refusal of a request that may be sent again after `retry_after` seconds (RFC 9110, Retry-After)."""

    def __init__(self, code: str, message: str, hint: str, retry_after: int) -> None:
        super().__init__(code, message, hint=hint, status=429)
        self.retry_after = retry_after


class LoadLimits:
    """The limits of one kind of callers: `heavy_per_caller` of all `heavy` requests, and `following` per caller."""

    def __init__(
        self,
        heavy: int = _HEAVY_AT_ONCE,
        heavy_per_caller: int = 1,
        waiting: int = _HEAVY_WAITING,
        following: int = _FOLLOWING,
    ) -> None:
        self._heavy = FairQueue(heavy, heavy_per_caller, waiting)
        self._waiting = waiting
        self._most_following = following
        self._following: Counter[str] = Counter()

    async def run_heavy(self, caller: str, work: Callable[[], Awaitable[T]]) -> T:
        """Carry out `work` when it is the caller's turn. Raises `too_many_reads`.

        Work that has begun is carried out, and counts, to its end: a caller that hangs up gets no further turn by that.
        """
        try:
            release = await self._heavy.acquire(caller)
        except QueueFull:
            why = f"{self._waiting} requests of {caller} for large answers are waiting already"
            raise TooManyRequests("too_many_reads", why, "wait for their answers, then ask again", 1) from None
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda _: release())
        return await finish_detached(task)

    async def run_following(self, caller: str, work: Callable[[], Awaitable[T]]) -> T:
        """Carry out `work`, which may wait. Raises `too_many_followers`."""
        if self._following[caller] >= self._most_following:
            why = f"{caller} follows {self._most_following} logs or streams already"
            raise TooManyRequests("too_many_followers", why, "end one of these requests, then ask again", 5)
        self._following[caller] += 1
        try:
            return await work()
        finally:
            self._following[caller] -= 1
            if not self._following[caller]:
                del self._following[caller]


_NO_QUERY = Query()


class Authority(Protocol):
    """The check of a socket whose callers have different rights."""

    async def identify(self, endpoint: Endpoint, request: web.BaseRequest) -> Caller:
        """Return the caller by the credential of the request. Raises `not_signed_in`."""

    def permit(self, endpoint: Endpoint, caller: Caller) -> None:
        """Raise `not_permitted` unless the caller's role is enough for the endpoint."""

    async def check(self, endpoint: Endpoint, call: ApiCall) -> None:
        """Raise HiveError, as for an unknown name, unless the caller may know of the request's subject."""

    def attending(self, endpoint: Endpoint, call: ApiCall) -> AbstractAsyncContextManager[None]:
        """Hold the answer to a request that waits, so that it ends with the caller's rights."""


@dataclass(frozen=True)
class Dispatcher:
    """Answers every request of a socket: by its endpoint, or in the protocol's error shape.

    Without an `authority`, whoever has the socket may use every endpoint.
    """

    router: Router
    identify: Identify
    refused: Refused
    timed: Timed
    check: Check | None = None
    authority: Authority | None = None
    limits: LoadLimits = field(default_factory=LoadLimits)
    bodies: BodyParser = field(default_factory=BodyParser)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the answer to one request; calls `refused` for a refusal, and `timed` with the duration."""
        clock = asyncio.get_running_loop().time
        started = clock()
        caller: Caller | None = None
        endpoint: Endpoint | None = None
        try:
            caller = self.identify(request)
            if self.check is not None:
                self.check(request)
            endpoint, parameters = self.router.find(request.method, request.rel_url.raw_path)
            if self.authority is not None:
                caller = await self.authority.identify(endpoint, request)
                self.authority.permit(endpoint, caller)
            response = await self._carry_out(endpoint, caller, parameters, request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            refusal = _as_refusal(error, request)
            if caller is not None:
                # In ASCII: a path may hold what can be neither printed nor stored.
                await self.refused(caller, ascii(f"{request.method} {request.path}")[1:-1], refusal)
            response = _error_response(refusal)
        finally:
            request_ends(request)
        if not request.content.is_eof():
            # The rest of the request would count as the beginning of the next one.
            response.force_close()
        if endpoint is not None:
            self.timed(endpoint.path, response.status, clock() - started)
        return response

    async def _carry_out(
        self, endpoint: Endpoint, caller: Caller, parameters: Mapping[str, str], request: web.BaseRequest
    ) -> web.StreamResponse:
        if endpoint.manager_only and caller.kind != "manager":
            hint = "ask hm1nd: send it a message"
            raise HiveError("manager_only", "only the manager may do this", hint=hint, status=403)
        query = parsed_query(endpoint.query or Query, request) if endpoint.query or request.query_string else _NO_QUERY
        body = await self.bodies.parse(caller.name, endpoint, request)
        request_begins(request, waits=endpoint.waits, streams=endpoint.streams)
        call = ApiCall(caller, parameters, query, body, request)
        if self.authority is None:
            return await self._answer_of(endpoint, call)
        await self.authority.check(endpoint, call)
        if not endpoint.waits:
            return await self._answer_of(endpoint, call)
        async with self.authority.attending(endpoint, call):
            return await self._answer_of(endpoint, call)

    async def _answer_of(self, endpoint: Endpoint, call: ApiCall) -> web.StreamResponse:
        caller = call.caller
        if endpoint.until is not None:
            await endpoint.until(call)
        if endpoint.load == "heavy":
            return await self.limits.run_heavy(caller.name, lambda: _heavy_answer(endpoint, call))
        if endpoint.load == "follows":
            answer = await self.limits.run_following(caller.name, lambda: endpoint.handler(call))
        elif endpoint.waits:
            answer = await endpoint.handler(call)
        else:
            answer = await finish_detached(asyncio.ensure_future(endpoint.handler(call)))
        if isinstance(answer, web.StreamResponse):
            return answer
        return json_response(answer.__pydantic_serializer__.to_json(answer))


async def _heavy_answer(endpoint: Endpoint, call: ApiCall) -> web.StreamResponse:
    answer = await endpoint.handler(call)
    if isinstance(answer, web.StreamResponse):
        return answer
    # In a thread: JSON of a thousand rows would keep the event loop for longer than a send takes.
    return json_response(await READS.run(answer.__pydantic_serializer__.to_json, answer))


def _as_refusal(error: Exception, request: web.BaseRequest) -> HiveError:
    if isinstance(error, HiveError):
        return error
    if isinstance(error, web.RequestPayloadError):
        return bad_request("the request's body does not arrive as its headers say", "send it plainly, with its length")
    if is_lack_of_space(error):
        return disk_full("carry the request out")
    _log.error("request failed", path=ascii(request.path), exc_info=error)
    return HiveError("internal", "the daemon failed on this request", hint="see its log", status=500)


def _error_response(error: HiveError) -> web.StreamResponse:
    fields = [WrongField(field=field, reason=reason) for field, reason in error.fields]
    answer = ErrorAnswer(error=ErrorBody(code=error.code, message=error.message, hint=error.hint, fields=fields))
    headers = None
    if isinstance(error, WrongMethod):
        headers = {"Allow": error.allowed}
    elif error.status == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer"}
    elif isinstance(error, TooManyRequests):
        headers = {"Retry-After": str(error.retry_after)}
    return json_response(answer.as_json().encode(), error.status, headers)
