"""Plain HTTP: one request and its response, each written anew from what was read (h11).

Nothing that an agent or a server has sent is passed on as bytes, but as a method, a path, fields and pieces of a body:
how long they are is said once, and as one of them understands it. A connection carries one request, so that nothing can
hide behind its end.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
import h11._readers

from hive_core.services.egress.checks.heads import Head

# An empty value between two runs of white space takes h11 quadratic time if something wrong follows: seconds for the
# head of one response, or for trailers. So white space before a value is not given back.
h11._readers.header_field_re = re.compile(h11._readers.header_field_re.pattern.replace(rb":[ \t]*(", rb":[ \t]*+(", 1))

_PIECE = 64 * 1024
_AT_ONCE = 16
"""Events of a connection before others have their turn: one piece can hold 10,000 chunks."""
_MAX_RESPONSE_HEAD = 64 * 1024
_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer", b"upgrade"),
        b"transfer-encoding",
    }
)


class BadResponse(Exception):
    """The reason why a server's response cannot be passed on, before any of it was; a clause."""


class Exchange:
    """One request of an agent, and the response of a server."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        count_sent: Callable[[int], None],
        count_received: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._server = server
        self._count_sent = count_sent
        self._count_received = count_received
        self._to_client = h11.Connection(h11.SERVER)
        self._to_server = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_RESPONSE_HEAD)
        self._events = 0
        self.last_byte = self._loop.time()
        self.has_response = False
        """True if a part of the response was passed on."""

    async def run(self, head: Head, data: bytes) -> None:
        """Pass a request and its response on. `data` is the head as it was read, and what followed it.

        Raises BadResponse, OSError, and h11.RemoteProtocolError for a body of the request that cannot be read.
        """
        self._to_client.receive_data(data)
        request = self._to_client.next_event()
        # The head was read strictly before; this reading of it has to agree.
        if type(request) is not h11.Request or request.method != head.method.encode():
            raise h11.RemoteProtocolError("the head of the request is not understood")
        authority = head.host if head.port == 80 else f"{head.host}:{head.port}"
        framing = [(b"transfer-encoding", b"chunked")] if head.length is None else []
        if head.length or (head.length == 0 and head.method in ("POST", "PUT", "PATCH")):
            framing = [(b"content-length", str(head.length).encode())]
        fields = [(b"host", authority.encode()), *head.fields, *framing, (b"connection", b"close")]
        await self._send_to_server(h11.Request(method=head.method, target=head.target, headers=fields))
        if head.waits and head.length != 0:
            await self._send_to_client(h11.InformationalResponse(status_code=100, headers=[]))
        upload: asyncio.Future[Any] = asyncio.ensure_future(self._upload())
        try:
            await self._download(upload)
        finally:
            upload.cancel()
            with suppress(asyncio.CancelledError, OSError, h11.RemoteProtocolError):
                await upload

    async def _upload(self) -> None:
        """Pass the body of the request on."""
        while True:
            await self._give_way()
            event = self._to_client.next_event()
            if event is h11.NEED_DATA:
                data = await self._loop.sock_recv(self._client, _PIECE)
                self._count_sent(len(data))
                self.last_byte = self._loop.time()
                self._to_client.receive_data(data)
            elif type(event) is h11.Data:
                await self._send_to_server(h11.Data(data=event.data))
            elif type(event) is h11.EndOfMessage:
                if event.headers:
                    raise h11.RemoteProtocolError("trailers are not passed on")
                await self._send_to_server(h11.EndOfMessage())
                return
            else:
                raise ConnectionResetError("the agent has hung up")

    async def _download(self, upload: asyncio.Future[Any]) -> None:
        """Pass the response on, while the upload goes on beside it."""
        while True:
            await self._give_way()
            event = self._next_of_server()
            if event is h11.NEED_DATA:
                await self._receive_from_server(upload)
            elif type(event) is h11.Response:
                self.has_response = True
                await self._send_to_client(_response(event))
            elif type(event) is h11.Data:
                await self._send_to_client(h11.Data(data=event.data))
            elif type(event) is h11.EndOfMessage:
                await self._send_to_client(h11.EndOfMessage())
                return
            elif type(event) is not h11.InformationalResponse:
                raise BadResponse("the server has hung up without a response")

    async def _give_way(self) -> None:
        """Count an event, and let other connections have their turn after some."""
        self._events += 1
        if self._events % _AT_ONCE == 0:
            await asyncio.sleep(0)

    def _next_of_server(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._to_server.next_event()
        except h11.RemoteProtocolError as error:
            if self.has_response:
                raise ConnectionResetError("the response was broken off") from None
            raise BadResponse(f"the response is not understood: {error}") from None

    async def _receive_from_server(self, upload: asyncio.Future[Any]) -> None:
        """Read from the server. If the upload fails meanwhile, raise its error."""
        reading: asyncio.Future[Any] = asyncio.ensure_future(self._loop.sock_recv(self._server, _PIECE))
        try:
            if not upload.done():
                await asyncio.wait({reading, upload}, return_when=asyncio.FIRST_COMPLETED)
            if upload.done() and not reading.done():
                upload.result()
            data = await reading
        finally:
            reading.cancel()
        self._count_received(len(data))
        self.last_byte = self._loop.time()
        self._to_server.receive_data(data)

    async def _send_to_server(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        if data := self._to_server.send(event):
            # A server may answer before it has read everything, and read no more: its response counts.
            with suppress(BrokenPipeError, ConnectionResetError):
                await self._loop.sock_sendall(self._server, data)

    async def _send_to_client(
        self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage
    ) -> None:
        try:
            data = self._to_client.send(event)
        except h11.LocalProtocolError as error:  # More or less than the length that the server has said.
            raise ConnectionResetError(f"the response contradicts itself: {error}") from None
        if data:
            await self._loop.sock_sendall(self._client, data)


def _response(event: h11.Response) -> h11.Response:
    named = {
        option.strip(b" \t").lower()
        for name, value in event.headers
        if name == b"connection"
        for option in value.split(b",")
    }
    is_chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
    fields = [
        (name, value)
        for name, value in event.headers
        if name not in _HOP_BY_HOP and name not in named and not (is_chunked and name == b"content-length")
    ]
    return h11.Response(
        status_code=event.status_code, reason=event.reason, headers=[*fields, (b"connection", b"close")]
    )
