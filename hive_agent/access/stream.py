"""Frames between a program and the caller of its session."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections import deque

from hive_agent.access.program import SessionProgram
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame, Frame, FrameReader

_CHUNK = frames.MOST_BYTES
_MOST_INPUT = 1024 * 1024
"""Bytes for the program's stdin that are kept; then the caller has to wait."""
_LAST_OUTPUT_SECONDS = 1.0
"""Time for the last output on a terminal, which the kernel passes on a little after the end of the program."""
_BROKEN = select.POLLHUP | select.POLLERR | select.POLLNVAL


class _CallerGone(Exception):
    pass


class ProgramStream:
    """Passes frames of the caller to a program, and its output and end to the caller."""

    def __init__(self, connection: socket.socket, program: SessionProgram) -> None:
        self._connection = connection
        self._program = program
        self._reader = FrameReader(frames.FROM_CALLER - {frames.CHANNEL}, streams=frozenset({frames.STDIN}))
        # Each is used again and again: fresh memory for every part would cost more than copying it.
        self._arriving = memoryview(bytearray(_CHUNK))
        self._frame = memoryview(bytearray(frames.HEADER.size + _CHUNK))
        self._outgoing = memoryview(b"")
        self._input: deque[memoryview] = deque()
        self._input_bytes = 0
        self._input_ends = False
        self._exited_at: float | None = None

    def run(self) -> None:
        """Return when the program has exited and its end is sent, or when the caller has gone, which ends it."""
        self._connection.setblocking(False)
        try:
            while not self._is_over():
                self._step()
            self._send_exit()
        except (_CallerGone, BadFrame, OSError):
            self._program.end()

    def _is_over(self) -> bool:
        """Return True if the program has exited and nothing is left of its output."""
        if self._exited_at is None or self._outgoing:
            return False
        if not self._program.outputs:
            return True
        # A pipe holds all that the program wrote. What it started may keep the pipe, and write for ever.
        on_terminal = self._program.stdin in self._program.outputs
        if on_terminal and time.monotonic() < self._exited_at + _LAST_OUTPUT_SECONDS:
            return False
        poll = select.poll()
        for descriptor in self._program.outputs:
            poll.register(descriptor, select.POLLIN)
        return not any(events & select.POLLIN for _, events in poll.poll(0))

    def _step(self) -> None:
        program, connection = self._program, self._connection.fileno()
        poll = select.poll()
        wanted = select.POLLOUT if self._outgoing else 0
        if self._input_bytes < _MOST_INPUT:
            wanted |= select.POLLIN
        poll.register(connection, wanted)
        if not self._outgoing:
            for descriptor in program.outputs:
                poll.register(descriptor, select.POLLIN)
        if program.stdin is not None and self._input:
            events = select.POLLOUT
            if program.stdin in program.outputs and not self._outgoing:
                events |= select.POLLIN
            poll.register(program.stdin, events)
        if self._exited_at is None:
            poll.register(program.exited, select.POLLIN)
        for descriptor, events in poll.poll(None if self._exited_at is None else 50):
            if descriptor == connection:
                self._serve_caller(events)
            elif descriptor == program.exited:
                self._exited_at = time.monotonic()
                self._input.clear()
            else:
                if descriptor in program.outputs and events & (select.POLLIN | _BROKEN) and not self._outgoing:
                    self._read_output(descriptor)
                if descriptor == program.stdin and events & (select.POLLOUT | _BROKEN):
                    self._write_input()

    def _serve_caller(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush()
        if events & select.POLLIN:
            count = self._connection.recv_into(self._arriving)
            if not count:
                raise _CallerGone
            for frame in self._reader.feed(self._arriving[:count]):
                self._handle(frame)
        elif events & _BROKEN:
            raise _CallerGone

    def _handle(self, frame: Frame) -> None:
        if frame.kind == frames.STDIN:
            if frame.content and self._program.stdin is not None and not self._input_ends:
                self._take_input(frame.content)
        elif frame.kind == frames.EOF:
            self._input_ends = True
            self._write_input()
        elif frame.kind == frames.RESIZE:
            if len(frame.content) != frames.WINDOW.size:
                raise BadFrame("a frame of the wrong length")
            self._program.resize(*frames.WINDOW.unpack(frame.content))
        elif frame.kind == frames.SIGNAL:
            if len(frame.content) != 1 or frame.content[0] not in frames.SIGNALS:
                raise BadFrame("a signal that may not be sent")
            if self._exited_at is None:
                self._program.signal(signal.Signals(frame.content[0]))

    def _take_input(self, data: bytes | memoryview) -> None:
        """Write bytes to the program's stdin, and keep what it does not take now."""
        written = 0
        if not self._input and self._program.stdin is not None:
            try:
                written = os.write(self._program.stdin, data)
            except BlockingIOError:
                pass
            except OSError:  # The program does not read any more.
                self._program.close_stdin()
                return
        if written < len(data):
            self._input.append(memoryview(bytes(data[written:])))
            self._input_bytes += len(data) - written

    def _write_input(self) -> None:
        program = self._program
        while self._input and program.stdin is not None:
            try:
                written = os.write(program.stdin, self._input[0])
            except BlockingIOError:
                return
            except OSError:  # The program does not read any more.
                self._input.clear()
                self._input_bytes = 0
                program.close_stdin()
                return
            self._input_bytes -= written
            if written < len(self._input[0]):
                self._input[0] = self._input[0][written:]
            else:
                self._input.popleft()
        if self._input_ends:
            program.close_stdin()

    def _read_output(self, descriptor: int) -> None:
        try:
            count = os.readv(descriptor, [self._frame[frames.HEADER.size :]])
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the terminal any more.
            count = 0
        if not count:
            self._program.close_output(descriptor)
            return
        frames.HEADER.pack_into(self._frame, 0, self._program.outputs[descriptor], count)
        self._outgoing = self._frame[: frames.HEADER.size + count]
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._connection.send(self._outgoing, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        self._outgoing = self._outgoing[sent:]

    def _send_exit(self) -> None:
        end = self._program.wait()
        self._connection.setblocking(True)
        self._connection.sendall(frames.encode(frames.EXIT, frames.END.pack(*end)))
