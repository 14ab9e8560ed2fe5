"""JSON answers over HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

_AT_ONCE = 64 * 1024
"""Largest body that is written without waiting for the caller to read."""


class FastJsonResponse(web.StreamResponse):
    """A small JSON answer, written in one piece.

    Does what `web.Response` does for such an answer in a third of its time, which is most of what a send costs.
    """

    def __init__(self, content: bytes, status: int, headers: str) -> None:
        # The base class is not initialised: `prepare` writes all that it would prepare.
        self._content = content
        self._more_headers = headers
        self._code = status
        self._keep_alive = False
        self._closes = False

    @property
    def status(self) -> int:
        return self._code

    @property
    def keep_alive(self) -> bool | None:
        return self._keep_alive

    def force_close(self) -> None:
        self._closes = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the caller has hung up")
        self._keep_alive = request.keep_alive and not self._closes
        connection = "" if self._keep_alive else "Connection: close\r\n"
        head = (
            f"{_status_line(self._code)}Content-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(self._content)}\r\nDate: {_date(int(time.time()))}\r\n"
            f"{self._more_headers}{connection}\r\n"
        ).encode("ascii")
        self._send(transport, head if request.method == "HEAD" else head + self._content)
        return None

    def _send(self, transport: asyncio.Transport, answer: bytes) -> None:
        transport.write(answer)

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has written everything."""


class DescriptorResponse(FastJsonResponse):
    """A small JSON answer with a descriptor attached to its bytes (SCM_RIGHTS in unix(7)).

    A client that reads with read(2) or recv(2) gets the answer alone, and the kernel closes the descriptor.
    """

    def __init__(self, content: bytes, attached: socket.socket) -> None:
        """`attached` is passed on and closed, or closed if the caller has gone."""
        super().__init__(content, 200, "")
        self._attached = attached

    def _send(self, transport: asyncio.Transport, answer: bytes) -> None:
        with self._attached:
            # The transport can attach nothing, so its socket is used beside it: an answer before this one comes first.
            if transport.is_closing() or transport.get_write_buffer_size():
                raise ConnectionResetError("the caller does not read its answers")
            duplicate = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            with duplicate:
                try:
                    sent = socket.send_fds(duplicate, [answer], [self._attached.fileno()])
                except OSError as error:
                    raise ConnectionResetError(f"the answer could not be sent: {error}") from None
        if sent != len(answer):
            transport.abort()
            raise ConnectionResetError("the caller does not read its answers")


def json_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.StreamResponse:
    """Return `body` as an answer; a short one as a `FastJsonResponse`."""
    if len(body) > _AT_ONCE:
        return web.Response(body=body, status=status, headers=headers, content_type="application/json")
    return FastJsonResponse(body, status, "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items()))


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
