"""One connection of an agent: its request, the decision, and what follows it."""

from __future__ import annotations

import asyncio
import math
import socket
from contextlib import suppress
from dataclasses import dataclass

import h11

from hive_core.services.egress.agent import EgressAgent
from hive_core.services.egress.checks.client_hello import (
    MIN_SERVER_HELLO,
    ClientHello,
    NotTLS,
    is_retry_request,
    read_client_hello,
    skip_change_cipher_spec,
)
from hive_core.services.egress.checks.decision import EgressRefusal
from hive_core.services.egress.checks.first_bytes import WrongProtocol, is_ssh_greeting, read_protocol
from hive_core.services.egress.checks.heads import BadHead, Head, NotAName, find_end, read_head
from hive_core.services.egress.refusals import PHRASES, Explanation, RefusalCounter, explain
from hive_core.services.egress.traffic.base_connection import EgressConnection
from hive_core.services.egress.traffic.dial import AddressRefused, Dialer, Unreachable
from hive_core.services.egress.traffic.forward import BadResponse, Exchange
from hive_core.text import shown

_HEAD_SECONDS = 15.0
"""For the head of a request, and for the first message of TLS."""
_CONNECT_SECONDS = 60.0
"""More than the dialer takes."""
_LINGER_SECONDS = 2.0
_PIECE = 16 * 1024
_HTTP_PORT, _TLS_PORT = 80, 443
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_ALERT = bytes.fromhex("15030300020231")
"""A fatal alert of TLS: access denied."""


@dataclass(frozen=True)
class Parts:
    """The parts that connections of all agents share."""

    dialer: Dialer
    refusals: RefusalCounter


class _Refused(Exception):
    """A refusal, on the way to its answer."""

    def __init__(self, refusal: EgressRefusal, status: int | None = None) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.status = status


class Connection(EgressConnection):
    """A connection from the agent to the proxy, and the one to a host that it led to."""

    ends_with_policy = False

    def __init__(self, parts: Parts, agent: EgressAgent, client: socket.socket) -> None:
        self._target: tuple[str, int] | None = None
        """Host and port to which it leads, once they are decided on."""
        self._parts = parts
        super().__init__(agent, client, _HEAD_SECONDS)

    def is_decided(self) -> bool:
        """Return True once host and port are known."""
        return self._target is not None

    def is_allowed(self) -> bool:
        """Return True if the policy allows the host and the port."""
        return self._target is None or self._agent.decider.refuse(*self._target) is None

    async def _serve(self) -> None:
        try:
            data, end = await self._read_request()
            if not data:
                return
            head = self._read_head(data[:end])
            await self._connect(head.host, head.port)
            if not head.is_tunnel:
                await self._forward(head, data)
                return
        except _Refused as refused:
            self._parts.refusals.add(self._agent.name, refused.refusal)
            await self._answer(explain(refused.refusal, refused.status))
            return
        except Unreachable as why:
            await self._answer(Explanation(why.status, PHRASES[why.status], f"{why}."))
            return
        self._client.send(_ESTABLISHED)
        rest = data[end:]
        target = (head.host, head.port)
        if head.port == _TLS_PORT:
            await self._pass_tls(target, rest)
        elif head.port == _HTTP_PORT:
            await self._pass_http(target, rest)
        else:
            await self._pass_other(target, rest)

    async def _read_request(self) -> tuple[bytes, int]:
        """Return what was read, and the length of the head in it; nothing if the agent has hung up."""
        data = bytearray()
        while True:
            searched = len(data)
            piece = await self._receive()
            if not piece:
                return b"", 0
            data += piece
            try:
                end = find_end(data, searched)
            except BadHead as why:
                raise _Refused(EgressRefusal("bad_request", detail=str(why)), why.status) from None
            if end is not None:
                return bytes(data), end

    def _read_head(self, data: bytes, within: tuple[str, int] | None = None) -> Head:
        """Return the head of a request that the policy allows. Raises _Refused."""
        agent = self._agent
        try:
            head = read_head(data, within)
        except NotAName as why:
            raise _Refused(EgressRefusal("not_a_name", why.asked, detail=str(why))) from None
        except BadHead as why:
            raise _Refused(EgressRefusal("bad_request", detail=str(why)), why.status) from None
        if (refusal := agent.decider.refuse(head.host, head.port)) is not None:
            raise _Refused(refusal)
        if not head.is_tunnel and head.port == _TLS_PORT:
            detail = "port 443 is for TLS, and the request is plain HTTP"
            raise _Refused(EgressRefusal("not_tls", head.host, head.port, detail=detail))
        if agent.is_full():
            raise _Refused(EgressRefusal("connections"))
        if agent.decider.limits.bytes_per_day is not None and agent.is_over_bytes():
            raise _Refused(EgressRefusal("bytes_per_day"))
        return head

    async def _connect(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._phase_end = self._loop.time() + _CONNECT_SECONDS
        try:
            self._server = await self._parts.dialer.connect(self._agent, host, port)
        except AddressRefused as why:
            raise _Refused(why.refusal) from None
        # A `close` may have come while the name was looked up.
        if (refusal := self._agent.decider.refuse(host, port)) is not None:
            raise _Refused(refusal)
        self._phase_end = self._loop.time() + _HEAD_SECONDS

    async def _forward(self, head: Head, data: bytes) -> None:
        """Pass a request of plain HTTP on, and its response."""
        assert self._server is not None
        exchange = Exchange(self._client, self._server, self._agent.count_sent, self._agent.count_received)
        self._traffic = exchange
        self._phase_end = math.inf
        try:
            await exchange.run(head, data)
        except BadResponse as why:
            await self._answer(Explanation(502, "Bad Gateway", f"{head.host} was asked, but {why}."))
            return
        except h11.RemoteProtocolError as error:
            if not exchange.has_response:
                raise _Refused(EgressRefusal("bad_request", head.host, head.port, detail=str(error))) from None
            return
        await self._linger()

    async def _pass_http(self, target: tuple[str, int], data: bytes) -> None:
        """Pass one request on that was sent in a tunnel, as it would be without a tunnel."""
        buffer = bytearray(data)
        try:
            while True:
                end = None
                if buffer:
                    end = find_end(buffer)
                if end is not None:
                    break
                piece = await self._receive()
                if not piece:
                    return
                buffer += piece
            await self._forward(self._read_head(bytes(buffer[:end]), target), bytes(buffer))
        except BadHead as why:
            refusal = EgressRefusal("bad_request", *target, detail=str(why))
            self._parts.refusals.add(self._agent.name, refusal)
            await self._answer(explain(refusal, why.status))
        except _Refused as refused:
            self._parts.refusals.add(self._agent.name, refused.refusal)
            await self._answer(explain(refused.refusal, refused.status))

    async def _pass_other(self, target: tuple[str, int], data: bytes) -> None:
        """Pass TLS, SSH or HTTP on, whichever the agent begins; anything else is refused."""
        try:
            if not data and await self._server_speaks_first():
                await self._pass_greeting(target)
            while (protocol := read_protocol(data, target[1])) is None:
                piece = await self._receive()
                if not piece:
                    return
                data += piece
        except WrongProtocol as why:
            refusal = EgressRefusal("not_tls", *target, detail=str(why))
            self._parts.refusals.add(self._agent.name, refusal)
            await self._answer(explain(refusal))
            return
        if protocol == "tls":
            await self._pass_tls(target, data)
        elif protocol == "http":
            await self._pass_http(target, data)
        else:
            await self._pass(data)

    async def _server_speaks_first(self) -> bool:
        """Wait until one of the two ends has sent something; return True if that is the server alone."""
        assert self._server is not None
        first: asyncio.Future[bool] = self._loop.create_future()

        def settle(is_server: bool) -> None:
            if not first.done():
                first.set_result(is_server)

        self._loop.add_reader(self._client, settle, False)
        self._loop.add_reader(self._server, settle, True)
        try:
            return await first
        finally:
            for end in (self._client, self._server):
                self._loop.remove_reader(end)

    async def _pass_greeting(self, target: tuple[str, int]) -> None:
        """Pass the first bytes of a server of SSH on, for which some clients wait. Raises WrongProtocol."""
        assert self._server is not None
        greeting = b""
        while (is_ssh := is_ssh_greeting(greeting)) is None:
            piece = await self._loop.sock_recv(self._server, _PIECE)
            self._agent.count_received(len(piece))
            if not piece:
                raise ConnectionResetError("the server has hung up")
            greeting += piece
        if not is_ssh:
            raise WrongProtocol(f"the server on port {target[1]} speaks first, and not SSH")
        await self._loop.sock_sendall(self._client, greeting)

    async def _pass_tls(self, target: tuple[str, int], data: bytes) -> None:
        """Check that TLS begins, for this host, and pass it on; what breaks that ends with an alert."""
        try:
            data = await self._pass_hello(target, data)
            first = await self._receive_server_hello()
            if len(first) >= MIN_SERVER_HELLO and is_retry_request(first):
                # The second ClientHello could name another server.
                await self._loop.sock_sendall(self._client, first)
                data = await self._pass_hello(target, data, is_second=True)
                first = b""
        except _Refused as refused:
            self._parts.refusals.add(self._agent.name, refused.refusal)
            self._client.send(_ALERT)
            await self._linger()
            return
        if first:
            await self._loop.sock_sendall(self._client, first)
        await self._pass(data)

    async def _pass_hello(self, target: tuple[str, int], data: bytes, *, is_second: bool = False) -> bytes:
        """Read a ClientHello, check it and send it to the server. Return what was read after it. Raises _Refused."""
        assert self._server is not None
        buffer = bytearray(data)
        while True:
            skipped = skip_change_cipher_spec(buffer) if is_second else 0
            try:
                hello = read_client_hello(buffer[skipped:])
            except NotTLS as why:
                raise _Refused(EgressRefusal("not_tls", *target, detail=str(why))) from None
            if hello is not None:
                break
            piece = await self._receive()
            if not piece:
                raise ConnectionResetError("the agent has hung up")
            buffer += piece
        self._check_hello(target, hello)
        end = skipped + hello.size
        await self._loop.sock_sendall(self._server, buffer[:end])
        return bytes(buffer[end:])

    def _check_hello(self, target: tuple[str, int], hello: ClientHello) -> None:
        host, _ = target
        if hello.server_name != host:
            asked = f"TLS names the server {shown(hello.server_name)}" if hello.server_name else "TLS names no server"
            detail = f"{asked}, and the proxy was asked for {host}"
            raise _Refused(EgressRefusal("server_name", *target, detail=detail))
        if hello.encrypted and not self._agent.decider.is_encrypted_hello_allowed:
            detail = "the client sends encrypted_client_hello, which can hide the name of the server"
            raise _Refused(EgressRefusal("encrypted_hello", *target, detail=detail))

    async def _receive_server_hello(self) -> bytes:
        """Return the first bytes of the server, enough to tell whether it asks for a second ClientHello."""
        assert self._server is not None
        data = b""
        while len(data) < MIN_SERVER_HELLO:
            piece = await self._loop.sock_recv(self._server, _PIECE)
            self._agent.count_received(len(piece))
            data += piece
            if not piece or data[:1] != b"\x16":  # An alert, or no TLS at all: the agent's program sees it.
                break
        return data

    async def _answer(self, explanation: Explanation) -> None:
        self._phase_end = self._loop.time() + _LINGER_SECONDS
        self._client.send(explanation.as_response())
        await self._linger()

    async def _linger(self) -> None:
        """Let the agent read what was sent: a close with unread bytes would discard it."""
        self._phase_end = self._loop.time() + _LINGER_SECONDS
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)
            while await self._receive():
                pass
