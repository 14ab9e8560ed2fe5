"""Connections to ports of the agent (direct-tcpip of SSH): for -L and -D of ssh, and what editors do with them.

One session per port carries any number of connections: a browser makes many, and the audit log has a row for each
session.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import asyncssh
from asyncssh.constants import OPEN_CONNECT_FAILED

from hive_core.cli.access.session import bad_frame, refusal
from hive_core.cli.access.ssh.link import Link
from hive_core.cli.access.ssh.openings import Openings
from hive_core.cli.errors import Failure
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame
from hive_core.protocol.access.opening import Opening

_ANSWER_SECONDS = 20.0


class Forwards:
    """The sessions of the kind `forward` of one ssh, one for each port."""

    def __init__(self, openings: Openings) -> None:
        self._openings = openings
        self._sessions: dict[int, asyncio.Task[socket.socket]] = {}

    async def open(self, port: int, ended: Callable[[], None]) -> asyncssh.SSHTCPSession[bytes]:
        """Connect to a port of the agent. Raises ChannelOpenError with the agent's words."""
        try:
            connection = await self._connect(port)
        except BaseException as error:
            ended()
            if isinstance(error, Failure):
                words = error.format_message()
                raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, words) from None
            raise
        return AgentConnection(connection, ended)

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions.values():
            if session.done() and not session.cancelled() and session.exception() is None:
                session.result().close()
            session.cancel()
        self._sessions.clear()

    async def _connect(self, port: int) -> socket.socket:
        """Return a connection to the port, behind the answer of the agent's side. Raises Failure."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                for again in (True, False):
                    session = await self._session(port)
                    try:
                        socket.send_fds(session, [frames.encode(frames.CHANNEL)], [theirs.fileno()])
                        break
                    except BlockingIOError:
                        raise Failure("too_many_connections", "the agent does not accept connections") from None
                    except OSError:
                        # The agent was started anew, for example; a new session may reach it.
                        self._sessions.pop(port, None)
                        session.close()
                        if not again:
                            raise Failure("session_broken_off", "the agent does not accept connections") from None
                ours.setblocking(False)
                theirs.close()  # Else its end here would hide that of the agent.
                await _read_answer(ours, self._openings.agent)
            except BaseException:
                ours.close()
                raise
        return ours

    async def _session(self, port: int) -> socket.socket:
        if port not in self._sessions:
            self._sessions[port] = asyncio.create_task(self._openings.open(Opening("forward", port=port)))
        try:
            return await asyncio.shield(self._sessions[port])
        except Failure:
            self._sessions.pop(port, None)
            raise


async def _read_answer(connection: socket.socket, agent: str) -> None:
    """Read the frame that answers, and nothing behind it. Raises Failure."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            kind, length = frames.decode_header(await _read(connection, frames.HEADER.size), frames.FROM_AGENT)
            content = await _read(connection, length)
            if kind == frames.ERROR:
                raise refusal(content, agent)
            if kind != frames.ANSWER:
                raise BadFrame("output before an answer")
    except BadFrame as error:
        raise bad_frame(agent, error) from None
    except (OSError, EOFError):
        raise Failure("no_connection", f"{agent} did not answer for its port") from None


async def _read(connection: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = await asyncio.get_running_loop().sock_recv(connection, length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


class AgentConnection(asyncssh.SSHTCPSession[bytes]):
    """A channel of SSH that carries the bytes of one connection to a port of the agent."""

    def __init__(self, connection: socket.socket, ended: Callable[[], None]) -> None:
        self._connection = connection
        self._ended = ended
        self._link: _RawLink | None = None
        self._attaching: asyncio.Task[None] | None = None
        self._attached = False
        self._early: list[bytes | None] = []
        """Data that arrived before the connection could take it; None is the end."""

    def connection_made(self, chan: Any) -> None:
        self._link = _RawLink(chan)
        self._attaching = asyncio.create_task(self._attach(self._link))

    async def _attach(self, link: _RawLink) -> None:
        await link.attach(self._connection)
        self._attached = True
        for part in self._early:
            _pass_on(link, part)
        self._early.clear()

    def data_received(self, data: bytes, datatype: object) -> None:
        self._take(data)

    def eof_received(self) -> bool:
        self._take(None)
        if self._link is not None:
            self._link.end_direction()
        return True  # The other direction stays open.

    def _take(self, part: bytes | None) -> None:
        if self._link is not None and self._attached:
            _pass_on(self._link, part)
        else:
            self._early.append(part)

    def pause_writing(self) -> None:
        if self._link is not None:
            self._link.pause_reading()

    def resume_writing(self) -> None:
        if self._link is not None:
            self._link.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()
        if self._attaching is not None:
            self._attaching.cancel()
        if self._link is not None:
            self._link.close(sending=exc is None)
        if not self._attached:
            self._connection.close()


def _pass_on(link: Link, part: bytes | None) -> None:
    if part is None:
        link.write_eof()
    else:
        link.write(part)


class _RawLink(Link):
    """The agent's end of a connection."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._ended = 0

    def end_direction(self) -> None:
        """Note the end of one direction. After that of both, ssh waits for the end of the channel."""
        self._ended += 1
        if self._ended == 2:
            self.channel.close()

    def data_received(self, data: bytes) -> None:
        if not self.channel.is_closing():
            self.channel.write(data)

    def eof_received(self) -> bool:
        if not self.channel.is_closing():
            self.channel.write_eof()
        self.end_direction()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.channel.close()
