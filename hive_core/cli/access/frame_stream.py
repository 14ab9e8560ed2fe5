"""A program in an agent whose stdin and stdout this process uses itself: for tar streams and for git."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import TypeVar

from hive_core.cli.access import session
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame, Exit

T = TypeVar("T", bytes, int)

_KEPT_ERRORS = 4_096
_BUFFER = 256 * 1024


class FrameStream:
    """The output of a program in an agent, read as one stream, and its input.

    `errors` are the last bytes that it wrote to stderr, the agent's words. `end` is set when it has exited.
    """

    def __init__(self, connection: socket.socket, agent: str) -> None:
        self._connection = connection
        self._agent = agent
        self._left = 0
        self.errors = b""
        self.end: Exit | None = None
        connection.setblocking(False)

    def read(self, most: int) -> bytes:
        """Return at least one byte of the output, at most `most`; none at its end. Raises Failure."""
        while self.end is None:
            if self._left:
                data = self._receive(min(self._left, most))
                self._left -= len(data)
                return data
            self._next_frame()
        return b""

    def read_into(self, buffer: memoryview) -> int:
        """Read the output into `buffer`; returns the number of bytes, 0 at the end of the output. Raises Failure."""
        while self.end is None:
            if self._left:
                count = self._receive_into(buffer[: self._left])
                self._left -= count
                return count
            self._next_frame()
        return 0

    def read_exactly(self, length: int) -> bytes:
        """Return `length` bytes of the output, or fewer at its end. Raises Failure."""
        parts = bytearray()
        while len(parts) < length and (part := self.read(length - len(parts))):
            parts += part
        return bytes(parts)

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        """Send bytes to the program's stdin; returns False if it has ended already. Raises Failure."""
        view = memoryview(data)
        while view and self.end is None:
            part = view[: frames.MOST_BYTES]
            if not self._send(frames.HEADER.pack(frames.STDIN, len(part))) or not self._send(part):
                return False
            view = view[len(part) :]
        return self.end is None

    def write_file(self, file: int, offset: int, length: int) -> int:
        """Send a part of a file to the program's stdin, at most one frame.

        Returns the number of bytes, of which the last ones are zeros where the file has become shorter.
        """
        length = min(length, frames.MOST_BYTES)
        if not self._send(frames.HEADER.pack(frames.STDIN, length)):
            return length
        done = 0
        while done < length and self.end is None:
            try:
                sent = os.sendfile(self._connection.fileno(), file, offset + done, length - done)
            except BlockingIOError:
                self._wait_to_send()
                continue
            except OSError as error:
                if isinstance(error, BrokenPipeError | ConnectionResetError):
                    self._read_to_end()
                    break
                sent = 0  # The file cannot be read.
            if not sent and not self._send(bytes(length - done)):
                break
            done += sent or length - done
        return length

    def finish(self) -> Exit:
        """End the program's stdin, wait until it has exited, and return its end. Raises Failure."""
        self._send(frames.encode(frames.EOF))
        return self._read_to_end()

    def _read_to_end(self) -> Exit:
        """Read what is left, up to the end of the program, which may not have waited for its input."""
        while self.read(_BUFFER):
            pass
        assert self.end is not None
        return self.end

    def _send(self, data: bytes | memoryview) -> bool:
        view = memoryview(data)
        while view and self.end is None:
            try:
                view = view[self._connection.send(view, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._wait_to_send()
            except OSError:
                self._read_to_end()
        return self.end is None

    def _wait_to_send(self) -> None:
        """Wait until the connection takes bytes; what the program reports meanwhile is read, so that it goes on."""
        poll = select.poll()
        # Output is kept for `read`; only what the program reports besides is read here.
        poll.register(self._connection, select.POLLOUT if self._left else select.POLLOUT | select.POLLIN)
        if any(found & select.POLLIN for _, found in poll.poll()):
            self._next_frame()

    def _next_frame(self) -> None:
        """Read the header of the next frame, and its content unless it is output."""
        try:
            header = self._receive_exactly(frames.HEADER.size)
            kind, length = frames.decode_header(header, frames.FROM_AGENT)
            if kind == frames.STDOUT:
                self._left = length
                return
            content = self._receive_exactly(length)
            if kind == frames.STDERR:
                self.errors = (self.errors + content)[-_KEPT_ERRORS:]
            elif kind == frames.EXIT:
                self.end = frames.decode_exit(content)
            elif kind == frames.ERROR:
                raise session.refusal(content, self._agent)
            else:
                raise BadFrame("a second answer")
        except BadFrame as error:
            raise session.bad_frame(self._agent, error) from None

    def _receive_exactly(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            parts += self._receive(length - len(parts))
        return bytes(parts)

    def _receive(self, most: int) -> bytes:
        return self._wait_for(lambda: self._connection.recv(most))

    def _receive_into(self, buffer: memoryview) -> int:
        return self._wait_for(lambda: self._connection.recv_into(buffer))

    def _wait_for(self, receive: Callable[[], T]) -> T:
        while True:
            try:
                found = receive()
            except BlockingIOError:
                select.select([self._connection], [], [])
                continue
            except OSError:
                raise session.broken_off(self._agent) from None
            if not found:
                raise session.broken_off(self._agent)
            return found
