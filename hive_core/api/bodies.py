"""Bodies and queries of requests as their models, with bounds on what a malformed one costs, and bodies as streams.

Validation keeps the event loop and reports every fault, so a body is measured before it is parsed: its bytes, and its
values, of which each can be a fault.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from weakref import WeakValueDictionary

from aiohttp import web
from pydantic import BaseModel, ValidationError

from hive_core.api.endpoint import Endpoint
from hive_core.errors import HiveError, bad_request
from hive_core.errors.faults import dotted, find_faults
from hive_core.protocol import MAX_REQUEST_BYTES, Query, Request
from hive_core.protocol.names import NAME_RULE, STREAM_TYPE

_SILENT_SECONDS = 120.0
"""Longest that a caller may keep the reader of a stream waiting."""
_PIECE = 64 * 1024
_LARGE = 64 * 1024
_PAUSE = 4.0
"""Time until a caller's next large body is parsed, in times of what the last one took."""
_REFUSED_PAUSE = 0.1
"""Least pause in seconds after a large body that was refused: to receive it costs the daemon, too."""
_SHOWN_FAULTS = 5
_PLACE_MOST = 200
_LISTED_FAULTS = 200
"""Faults above which only their number is told, as the validator can list all of them or none."""


class BodyParser:
    """Parses bodies on the event loop, of which a caller's large ones take at most a fifth.

    A thread would not help, as validation lets no other thread run.
    """

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def parse(self, caller: str, endpoint: Endpoint, request: web.BaseRequest) -> Request | None:
        """Return the body as the endpoint's model. Raises `request_too_large`, `invalid_request` and `bad_name`."""
        if endpoint.body is None:
            return None
        text = await _read(endpoint, request)
        if len(text) <= _LARGE:
            return parsed_body(endpoint.body, text, endpoint.most_values)
        turn = self._turns.setdefault(caller, asyncio.Lock())
        await turn.acquire()
        loop = asyncio.get_running_loop()
        began, least = loop.time(), _REFUSED_PAUSE
        try:
            parsed = parsed_body(endpoint.body, text, endpoint.most_values)
            least = 0.0
            return parsed
        finally:
            loop.call_later(max(least, _PAUSE * (loop.time() - began)), turn.release)


async def _read(endpoint: Endpoint, request: web.BaseRequest) -> bytes:
    """Return the bytes of a request's body. Raises `request_too_large`, before it reads if the length is announced."""
    if (request.content_length or 0) > endpoint.most_bytes:
        raise _too_large(endpoint.most_bytes)
    # Kept in the pieces in which it arrives: one buffer that grows with each of them is moved again and again, and
    # leaves several times the size of all bodies as holes in the daemon's memory.
    pieces: list[bytes] = []
    size, content = 0, request.content
    while piece := await content.readany():
        size += len(piece)
        if size > endpoint.most_bytes:
            raise _too_large(endpoint.most_bytes)
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(most: int) -> HiveError:
    most_of_all = "a message's body may have 256 KiB, and the files of a spawn about 1.5 MiB together"
    hint = most_of_all if most == MAX_REQUEST_BYTES else "send shorter texts or fewer ids"
    return HiveError("request_too_large", f"the request has more than {most} bytes", hint=hint, status=413)


def parsed_body(model: type[Request], text: bytes, most_values: int) -> Request:
    """Return the body as its model; an empty one is an empty object. Raises `invalid_request` and `bad_name`."""
    if has_more_values(text, most_values):
        raise bad_request(f"the body has more than {most_values} values", "the forms are described in /v1/openapi.json")
    try:
        return model.model_validate_json(text or b"{}")
    except ValidationError as error:
        raise _invalid(error, model, "body") from None


def has_more_values(text: bytes, most: int) -> bool:
    """Return True if a JSON text has more than `most` values; a key and its value count as one, empty ones as two.

    A text that is no JSON may be counted wrongly, as it has only one fault. The first count includes what lies in
    strings and settles almost every text; the last one is exact.
    """
    if _separators(text) <= most:
        return False
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * most:  # A key and a value are two strings, with two quotes each.
        return True
    # Even parts lie outside of strings.
    return _separators(b"".join(plain.split(b'"')[::2])) > most


def _separators(text: bytes) -> int:
    """Count what begins a further value: a comma, or the start of an array or object, which may also be empty."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def parsed_query(model: type[Query], request: web.BaseRequest) -> Query:
    """Return the query as its model. Raises `invalid_request`."""
    if len(request.query) > len(set(request.query)):
        raise bad_request("a query parameter is given twice", "give each at most once")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise _invalid(error, model, "query") from None


def _invalid(error: ValidationError, model: type[BaseModel], part: str) -> HiveError:
    hint = "the forms are described in /v1/openapi.json"
    count = error.error_count()
    if count > _LISTED_FAULTS:
        return bad_request(f"the {part} has {count} faults", hint)
    # The path of a fault may hold a key that the caller chose.
    found = [(dotted((part, *fault.path))[:_PLACE_MOST], fault) for fault in find_faults(error, model, _SHOWN_FAULTS)]
    fields = [(place, fault.reason) for place, fault in found]
    texts = [f"{place}: {reason}" for place, reason in fields]
    if count > _SHOWN_FAULTS:
        texts.append(f"and {count - _SHOWN_FAULTS} more")
    if found[0][1].type == "bad_name":
        return HiveError("bad_name", texts[0], hint=NAME_RULE, fields=fields[:1])
    return HiveError("invalid_request", "; ".join(texts), hint=hint, fields=fields)


class BodyStream:
    """The body of a request that its endpoint reads in pieces, in order."""

    def __init__(self, request: web.BaseRequest) -> None:
        """Raises HiveError `not_a_stream` for a body of another type."""
        if request.content_type != STREAM_TYPE:
            hint = f'send "Content-Type: {STREAM_TYPE}"'
            raise HiveError("not_a_stream", f"the body is not {STREAM_TYPE}", hint=hint, status=415)
        self._content = request.content

    async def read_line(self, most: int) -> bytes:
        """Return the next line without its end. Raises HiveError `invalid_request` beyond `most` bytes."""
        try:
            async with asyncio.timeout(_SILENT_SECONDS):
                line = await self._content.readuntil(b"\n")
        except (ValueError, TimeoutError):
            raise _malformed() from None
        if not line.endswith(b"\n") or len(line) > most:
            raise _malformed()
        return line[:-1]

    async def read_exactly(self, count: int) -> bytes:
        """Return the next `count` bytes. Raises HiveError `invalid_request` if the body ends before."""
        try:
            async with asyncio.timeout(_SILENT_SECONDS):
                return await self._content.readexactly(count)
        except (asyncio.IncompleteReadError, TimeoutError):
            raise _malformed() from None

    async def pass_on(self, descriptor: int) -> None:
        """Write the rest of the body to a non-blocking pipe. Stops if nobody reads it any more."""
        with suppress(BrokenPipeError):
            while True:
                try:
                    async with asyncio.timeout(_SILENT_SECONDS):
                        piece = await self._content.read(_PIECE)
                except TimeoutError:
                    raise _malformed() from None
                if not piece:
                    return
                await _write_all(descriptor, piece)


async def _write_all(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            await _writable(descriptor)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _malformed() -> HiveError:
    return bad_request("the body is not what this endpoint takes, or did not arrive", "see docs/work.md")
