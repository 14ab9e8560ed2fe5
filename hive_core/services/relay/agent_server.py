"""The relay's side of one agent: its listening socket, and its requests up to the call of a model."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Mapping
from traceback import extract_tb
from types import ModuleType
from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from hive_core.infra.concurrency.threads import Threads
from hive_core.protocol.models.refusals import MARKS
from hive_core.protocol.models.vendors import VendorApi
from hive_core.services.relay.apis import anthropic, google, openai
from hive_core.services.relay.apis.base import ApiRoute, CallRefused, CallTerms, CheckedCall
from hive_core.services.relay.apis.headers import presented_keys
from hive_core.services.relay.apis.strict_json import BadJson, parse, serialise
from hive_core.services.relay.call import CallContext, CallRequest, RelayCall, error_response
from hive_core.services.relay.pace import Pace
from hive_core.services.relay.policy import Provider, RelayPolicy
from hive_core.services.relay.room import HeldBytes

log = structlog.get_logger(__name__)

MOST_BODY_BYTES = 32 * 1024 * 1024
"""Largest request, which is also the vendors' limit."""
_AT_ONCE_BYTES = 16 * 1024
"""Size up to which a request is checked on the event loop; larger ones are on a thread."""
_MOST_CONNECTIONS = 128
_BODY_SECONDS = 120.0
_KEEP_ALIVE_SECONDS = 75.0
_APIS: Mapping[VendorApi, ModuleType] = {"anthropic": anthropic, "openai": openai, "google": google}
_CHECKS = Threads("checks", 2)
_TOLD_SECONDS = 60.0

# aiohttp logs a traceback here, with what it was sent, for bytes that are no HTTP.
_garbage = logging.getLogger("hive_core.services.relay.garbage")
_garbage.disabled = True


class _BoundedServer(web.Server):
    """A server that bounds its connections, and ends idle ones at their end of time.

    Where a key is needed, others than the agent can connect: the oldest connection without the key makes room.
    """

    needs_key = False

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._strangers: dict[RequestHandler, asyncio.Transport] = {}
        """Connections that have not shown the key, the oldest first."""

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection, or end it at once if there are too many."""
        is_full = len(self.connections) >= _MOST_CONNECTIONS and not self._make_room()
        super().connection_made(handler, transport)
        self._strangers[handler] = transport
        if is_full:
            transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Count a connection no more."""
        super().connection_lost(handler, exc)
        self._strangers.pop(handler, None)

    def trust(self, handler: RequestHandler) -> None:
        """Let a connection that has shown the key make room for no other."""
        self._strangers.pop(handler, None)

    def _make_room(self) -> bool:
        if not self.needs_key or not self._strangers:
            return False
        self._strangers.pop(next(iter(self._strangers))).abort()
        return True


class RelayAgentServer:
    """Answers the requests of one agent. Whose they are is decided by the socket alone."""

    def __init__(self, name: str, policy: RelayPolicy, context: CallContext) -> None:
        self.name = name
        self._key = ""
        self._policy = policy
        self._context = context
        self._calls: set[RelayCall] = set()
        self._slots = 0
        """Requests that are calls, or will be when their bodies are there."""
        self._pace = Pace()
        self._checking = asyncio.Lock()
        """Held while a large request of the agent is checked, so that the others' never wait for more than one."""
        self._told = -math.inf
        self.idle = asyncio.Event()
        """Set while no call is under way."""
        self.idle.set()
        self.server = _BoundedServer(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            max_field_size=8_190,
            logger=_garbage,
        )

    @property
    def key(self) -> str:
        """The key that a request must bring, if the socket is on a loopback that others share; else empty."""
        return self._key

    @key.setter
    def key(self, key: str) -> None:
        self._key = key
        self.server.needs_key = bool(key)

    @property
    def calls(self) -> int:
        """The number of calls under way."""
        return len(self._calls)

    def end_calls(self) -> None:
        """End the calls that are under way."""
        for call in list(self._calls):
            call.end()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        name, _, rest = path.removeprefix("/").partition("/")
        provider = self._policy.providers.get(name)
        api: VendorApi = provider.settings.api if provider is not None else _guess(request)
        try:
            if request.method == "HEAD":
                return web.Response()
            self._check_key(request)
            await self._pace.wait()
            response = await self._serve(request, name, provider, f"/{rest}")
            self._pace.served()
            return response
        except CallRefused as refused:
            self._context.metrics.refused(str(refused.status))
            log.debug("a request was refused", agent=self.name, status=refused.status)
            code = "budget" if refused.message.startswith(MARKS["budget"]) else "refused"
            return error_response(api, refused.status, refused.message, code)
        except BadJson as error:
            self._context.metrics.refused("400")
            return error_response(api, 400, f"the body of the request is refused: {error}")
        except web.RequestPayloadError:
            self._context.metrics.refused("400")
            return error_response(api, 400, "the body of the request is not sent as its head says")
        except ConnectionError:
            raise
        except Exception as error:
            self._tell_fault(error)
            if request.writer.output_size > 0:
                raise ConnectionResetError from None
            return error_response(api, 500, "the relay could not handle the request; its log says why")

    def _tell_fault(self, error: Exception) -> None:
        """Log a fault of the relay itself, at most once in a minute, and without words of the request."""
        now = asyncio.get_running_loop().time()
        if now - self._told >= _TOLD_SECONDS:
            self._told = now
            places = [f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in extract_tb(error.__traceback__)]
            log.error("a request could not be handled", agent=self.name, error=type(error).__name__, at=places[-5:])

    def _check_key(self, request: web.BaseRequest) -> None:
        if self.key and not any(
            hmac.compare_digest(each.encode(errors="replace"), self.key.encode())
            for each in presented_keys(request.headers)
        ):
            raise CallRefused("this needs the key that hyperhive has given to the agent", 401)
        self.server.trust(request.protocol)

    async def _serve(
        self, request: web.BaseRequest, name: str, provider: Provider | None, path: str
    ) -> web.StreamResponse:
        access = self._policy.agents.get(self.name, {}).get(name)
        if access is None or provider is None:
            known = ", ".join(sorted(self._policy.agents.get(self.name, {}))) or "none"
            raise CallRefused(f"{self.name} has no provider {name[:40]!r}; it has: {known}", 404)
        if not provider.usable:
            raise CallRefused(f"the hive has no usable key for the provider {name}; the operator has to give it", 503)
        rules = _APIS[provider.settings.api]
        route: ApiRoute | None = rules.find_route(request.method, path)
        if route is None:
            raise CallRefused(f"{request.method} {path[:100]} is not passed on", 404)
        query = _check_query(request, route, rules)
        terms = provider.terms(access)
        if self._slots >= provider.settings.calls_at_once:
            raise CallRefused(f"{self.name} has {self._slots} calls under way, which is the most", 429)
        self._slots += 1
        try:
            with self._context.room.hold(self.name) as held:
                checked = None if route.kind == "read" else await self._read_body(request, route, terms, rules, held)
                wanted = CallRequest(self.name, provider.settings.api, provider, terms, route, query, checked)
                return await self._call(request, wanted)
        finally:
            self._slots -= 1

    async def _call(self, request: web.BaseRequest, wanted: CallRequest) -> web.StreamResponse:
        call = RelayCall(self._context, wanted)
        self._calls.add(call)
        self.idle.clear()
        try:
            return await call.run(request)
        finally:
            self._calls.discard(call)
            if not self._calls:
                self.idle.set()

    async def _read_body(
        self, request: web.BaseRequest, route: ApiRoute, terms: CallTerms, rules: ModuleType, held: HeldBytes
    ) -> CheckedCall:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise CallRefused("the body of a request must not be compressed", 415)
        if request.content_type != "application/json" or (request.charset or "utf-8").lower() != "utf-8":
            raise CallRefused("the body of a request must be application/json in UTF-8", 415)
        try:
            data = await _read(request, held)
        finally:
            self._pace.charge_bytes(held.size)
        if len(data) <= _AT_ONCE_BYTES:
            return _check_body(data, route, terms, rules)
        async with self._checking:
            return await _CHECKS.run(self._check_large, asyncio.get_running_loop(), data, route, terms, rules)

    def _check_large(
        self, loop: asyncio.AbstractEventLoop, data: bytes, route: ApiRoute, terms: CallTerms, rules: ModuleType
    ) -> CheckedCall:
        """Check a body on a thread, whose time is charged."""
        began = time.thread_time()
        try:
            return _check_body(data, route, terms, rules)
        finally:
            loop.call_soon_threadsafe(self._pace.charge_check, time.thread_time() - began)


async def _read(request: web.BaseRequest, held: HeldBytes) -> bytes:
    content = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.content.iter_any():
                content += chunk
                if len(content) > MOST_BODY_BYTES:
                    raise CallRefused(f"a request may have {MOST_BODY_BYTES} bytes", 413)
                if not held.add(len(chunk)):
                    raise CallRefused("the relay has too many large requests under way; try again", 503)
    except TimeoutError:
        raise CallRefused("the request did not arrive in time", 408) from None
    return bytes(content)


def _check_body(data: bytes, route: ApiRoute, terms: CallTerms, rules: ModuleType) -> CheckedCall:
    checked: CheckedCall = rules.check(parse(data), route, terms)
    checked.content = serialise(checked.body)
    checked.body = {}  # It takes a multiple of its text, and streams last long.
    return checked


def _check_query(request: web.BaseRequest, route: ApiRoute, rules: ModuleType) -> dict[str, str]:
    """Check the query of a request, and return what of it is sent on; a key in it is none of the vendor's."""
    query: dict[str, Any] = {}
    for name, value in request.query.items():
        if name not in rules.QUERY[route.kind] or name in query:
            raise CallRefused(f"the parameter {name[:60]!r} of the query is not passed on")
        query[name] = value[:200]
    query.pop("key", None)
    if route.stream and query.get("alt") != "sse":
        raise CallRefused("a stream is served as events only: add alt=sse to the query")
    if "beta" in query and query["beta"] != "true":
        raise CallRefused("the parameter 'beta' of the query may only be true")
    if "alt" in query and query["alt"] not in ("sse", "json"):
        raise CallRefused("the parameter 'alt' of the query may be sse or json")
    return query


def _guess(request: web.BaseRequest) -> VendorApi:
    """Return the API whose client has sent a request that names no known provider."""
    if "anthropic-version" in request.headers:
        return "anthropic"
    return "google" if "x-goog-api-client" in request.headers else "openai"
