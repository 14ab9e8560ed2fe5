"""One call of a model: checked, reserved, sent on with a key, its answer passed back as it comes, and settled."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from hive_core.protocol.models.link import RelayReserve, RelaySettle
from hive_core.protocol.models.refusals import MARKS
from hive_core.protocol.models.usage import CallOutcome
from hive_core.protocol.models.vendors import VendorApi
from hive_core.services.relay.apis import headers
from hive_core.services.relay.apis.base import ApiRoute, CallRefused, CallTerms, CheckedCall
from hive_core.services.relay.apis.errors import budget_message, error_body, error_event
from hive_core.services.relay.apis.usage import UsageReader
from hive_core.services.relay.keys import in_order
from hive_core.services.relay.link import DaemonLink, LinkDown
from hive_core.services.relay.policy import Provider
from hive_core.services.relay.room import RequestRoom
from hive_core.services.relay.status import RelayMetrics

log = structlog.get_logger(__name__)

_MOST_ANSWER_BYTES = 64 * 1024 * 1024
"""Largest answer that is no stream."""
_MOST_ERROR_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
_STALLED_SECONDS = 300.0
"""Longest that an agent may leave an answer unread."""
_LAST_SECONDS = 2.0
"""The same of a call that has to end."""
_EVENT_STREAM = "text/event-stream"


class CallEnded(Exception):
    """The call has to end: the relay stops, or its agent must not go on. It is raised where the answer is read."""


@dataclass(frozen=True)
class CallContext:
    """The parts that all calls share."""

    link: DaemonLink
    session: aiohttp.ClientSession
    metrics: RelayMetrics
    room: RequestRoom


@dataclass(frozen=True)
class CallRequest:
    """A request of an agent that was checked; `checked` is None for one that only reads."""

    agent: str
    api: VendorApi
    provider: Provider
    terms: CallTerms
    route: ApiRoute
    query: dict[str, str]
    checked: CheckedCall | None


class RelayCall:
    """One call while it is under way."""

    def __init__(self, context: CallContext, request: CallRequest) -> None:
        self._context = context
        self._request = request
        self._id = context.link.new_call()
        self._began = time.monotonic()
        self._first_byte: int | None = None
        self._answer: aiohttp.ClientResponse | None = None
        self._task: asyncio.Task[Any] | None = None
        self._writing: asyncio.Timeout | None = None
        self._ended = False
        self._usage: UsageReader | None = None
        self._status: int | None = None

    @property
    def _api(self) -> VendorApi:
        return self._request.api

    def end(self) -> None:
        """End the call: a stream gets an event that says so, any other answer is an error."""
        self._ended = True
        if self._writing is not None and not self._writing.expired():
            self._writing.reschedule(asyncio.get_running_loop().time() + _LAST_SECONDS)
        if self._answer is not None:
            self._answer.content.set_exception(CallEnded())
        elif self._task is not None:
            self._task.cancel()

    async def run(self, request: web.BaseRequest) -> web.StreamResponse:
        """Carry the call out, and answer `request`."""
        body = b"" if self._request.checked is None else self._request.checked.content
        charged = self._request.checked if self._request.route.kind == "generate" else None
        reserved = False
        outcome: CallOutcome = "left"
        self._task = asyncio.current_task()
        try:
            if charged is not None:
                await self._reserve(charged, len(body))
                reserved = True
            response, outcome = await self._exchange(request, body)
            return response
        except asyncio.CancelledError:
            if not self._ended:
                raise
            if self._task is not None:
                self._task.uncancel()
            outcome = "broken"
            return self._error(503, "the relay is ending this call; try again", "relay_stopping")
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            outcome = "not_sent"
            return self._error(502, f"the provider {self._name} cannot be reached: {_words(error)}", "unreachable")
        except CallEnded:
            outcome = "broken"
            return self._error(503, "the relay is ending this call; try again", "relay_stopping")
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = "broken"
            return self._error(502, f"the provider {self._name} did not answer: {_words(error)}", "unreachable")
        finally:
            self._task = None
            if outcome == "left" and self._usage is not None and self._usage.complete:
                outcome = "done"  # Some programs hang up as soon as they have the last event.
            if reserved:
                self._settle(outcome)
            if reserved or charged is None:
                self._context.metrics.ended(self._name, outcome, self._first_byte)

    @property
    def _name(self) -> str:
        return self._request.provider.settings.name

    async def _reserve(self, checked: CheckedCall, size: int) -> None:
        """Ask for the money of the call. Raises `CallRefused`."""
        asked = RelayReserve(
            id=0,
            call=self._id,
            agent=self._request.agent,
            provider=self._name,
            model=checked.model,
            bytes=size,
            max_tokens=checked.max_tokens,
            unbounded=checked.unbounded,
            fast=checked.fast,
        )
        try:
            answer = await self._context.link.reserve(asked)
        except (LinkDown, asyncio.CancelledError) as error:
            # It may have been granted meanwhile, and nobody has heard of it.
            self._context.link.settle(RelaySettle(id=0, call=self._id, outcome="not_sent"))
            if isinstance(error, LinkDown):
                raise CallRefused("the hive's daemon does not answer; try again", 503) from None
            raise
        if not answer.granted:
            self._context.metrics.refused("budget")
            if answer.refusal is not None:
                raise CallRefused(budget_message(self._request.agent, answer.refusal), 403)
            if answer.stopped:
                raise CallRefused(f"{MARKS['stopped']} {answer.problem}", 403)
            # The disk is full, say: programs have to repeat the call.
            raise CallRefused(f"hyperhive: {answer.problem or 'the ledger does not answer'}; try again", 503)

    async def _exchange(self, request: web.BaseRequest, body: bytes) -> tuple[web.StreamResponse, CallOutcome]:
        async with self._send(request, body) as answer:
            self._status = answer.status
            if answer.status >= 300:
                return await self._pass_error(answer), "failed"
            self._answer = answer
            try:
                if answer.content_type == _EVENT_STREAM:
                    return await self._pass_stream(request, answer)
                return await self._pass_body(answer), "done"
            finally:
                self._answer = None

    @asynccontextmanager
    async def _send(self, request: web.BaseRequest, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the request, with the next key if the vendor is overloaded."""
        settings = self._request.provider.settings
        sent = headers.to_vendor(self._api, request.headers.items(), self._request.terms.features)
        if not body:
            del sent["content-type"]
        method = "GET" if self._request.route.kind == "read" else "POST"
        keys = in_order(self._request.provider.keys)
        for number, key in enumerate(keys or [None]):
            own = headers.key_header(self._api, key.reveal()) if key is not None else {}
            async with self._context.session.request(
                method,
                settings.base_url + self._request.route.path,
                params=self._request.query,
                data=_payload(body),
                headers={**sent, **own},
                allow_redirects=False,
            ) as answer:
                overloaded = answer.status in (429, 529) or answer.status >= 500
                if overloaded and key is not None:
                    key.pause(answer.headers.get("retry-after"))
                if not overloaded or number + 1 >= len(keys):
                    yield answer
                    return
            self._context.metrics.next_key(self._name)

    async def _pass_stream(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse
    ) -> tuple[web.StreamResponse, CallOutcome]:
        self._usage = usage = UsageReader(self._api, stream=True)
        response = web.StreamResponse(status=answer.status, headers=headers.to_agent(answer.headers.items()))
        await response.prepare(request)
        outcome: CallOutcome = "done"
        end = b""
        while True:
            try:
                chunk = await answer.content.readany()
            except CallEnded:
                outcome, end = "broken", error_event(self._api, "the relay is ending this call; try again")
                break
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("an answer has broken off", provider=self._name, reason=_words(error))
                text = f"the provider {self._name} has broken off its answer"
                outcome, end = "broken", error_event(self._api, text)
                break
            if not chunk:
                break
            if self._first_byte is None:
                self._first_byte = self._elapsed()
            try:
                async with self._while_it_is_read():
                    await response.write(chunk)
            except (ConnectionError, TimeoutError):  # The agent has hung up, or does not read.
                if request.transport is not None:
                    request.transport.abort()
                return response, "broken" if self._ended else "left"
            finally:
                usage.feed(chunk)
        usage.finish()
        if outcome == "done" and not usage.complete:
            outcome = "broken"
        try:
            async with self._while_it_is_read():
                await response.write_eof(end)
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        return response, outcome

    @asynccontextmanager
    async def _while_it_is_read(self) -> AsyncIterator[None]:
        """Give the agent time to read; little if the call has to end. Raises TimeoutError."""
        async with asyncio.timeout(_LAST_SECONDS if self._ended else _STALLED_SECONDS) as patience:
            self._writing = patience
            try:
                yield
            finally:
                self._writing = None

    async def _pass_body(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        content = await _read(answer, _MOST_ANSWER_BYTES)
        self._first_byte = self._elapsed()
        self._usage = usage = UsageReader(self._api, stream=False)
        usage.feed(content)
        usage.finish()
        return web.Response(body=content, status=answer.status, headers=headers.to_agent(answer.headers.items()))

    async def _pass_error(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass an error of the vendor's, without what it may say of the key."""
        passed = headers.to_agent(answer.headers.items())
        if answer.status < 400:
            return self._error(502, f"the provider {self._name} answers with a redirect, which is not followed")
        if answer.status == 401:
            # With 403, programs do not repeat the call, nor replace the text by one about keys of their own.
            why = f"{MARKS['stopped']} the provider {self._name} does not accept the hive's key"
            return self._error(403, f"{why}: the operator has to replace it", "vendor_refuses")
        content = await _read(answer, _MOST_ERROR_BYTES)
        for key in self._request.provider.keys:
            content = content.replace(key.reveal().encode(), b"[hidden]")
        return web.Response(body=content, status=answer.status, headers=passed)

    def _settle(self, outcome: CallOutcome) -> None:
        usage = self._usage
        self._context.link.settle(
            RelaySettle(
                id=0,
                call=self._id,
                outcome=outcome,
                status=self._status,
                served=usage.model if usage is not None else "",
                tokens=usage.tokens if usage is not None else None,
                complete=usage.complete if usage is not None else False,
                answered_bytes=usage.written if usage is not None else 0,
                first_byte=self._first_byte,
                duration=self._elapsed(),
            )
        )

    def _elapsed(self) -> int:
        return int((time.monotonic() - self._began) * 1_000)

    def _error(self, status: int, message: str, code: str = "") -> web.Response:
        return error_response(self._api, status, message, code)


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """Return a body as it is sent: a large one in pieces, between which other calls go on."""
    return (io.BytesIO(body) if len(body) > _PIECE_BYTES else body) or None


def error_response(api: VendorApi, status: int, message: str, code: str = "") -> web.Response:
    """Return an error in the shape of the vendor's API."""
    more = {"retry-after": "2"} if status in (429, 503) else {}
    return web.Response(
        body=error_body(api, status, message, code), status=status, content_type="application/json", headers=more
    )


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Read an answer as a whole. Raises ClientPayloadError if it is too large."""
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > most:
            raise aiohttp.ClientPayloadError(f"the answer has more than {most} bytes")
    return bytes(content)


def _words(error: BaseException) -> str:
    """Return what a failure was, without texts that could hold anything of a request."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.strerror:
        return error.strerror
    with suppress(IndexError):
        return type(error).__name__
    return ""
