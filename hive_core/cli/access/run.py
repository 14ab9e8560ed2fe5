"""A command in an agent, with this process's standard streams or terminal."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from hive_core.cli.access import session, terminal
from hive_core.cli.access.session import SessionFailure
from hive_core.cli.client import Client
from hive_core.cli.output import ShownLines
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame, Exit, Frame, FrameReader
from hive_core.protocol.access.opening import Opening

_CHUNK = 64 * 1024
_RECEIVED = 256 * 1024
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_BROKEN = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Interrupted(Exception):
    """The caller wants the session to end, whatever the agent's side does. `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def run(client: Client, agent: str, opening: Opening, *, stdin: bool, escaped: bool = False) -> int:
    """Run the opening's command and return its exit code. With `stdin` it gets this process's. Raises Failure.

    With `escaped`, its output is shown in lines that no terminal interprets.
    """
    connection = session.open_session(client, agent, opening)
    streams = _Streams(connection, agent, on_terminal=opening.terminal is not None, stdin=stdin, escaped=escaped)
    try:
        return streams.run()
    except Interrupted as interrupted:
        return interrupted.code
    finally:
        session.close(connection)


class _Streams:
    """Passes the standard streams to a session and back."""

    def __init__(self, connection: socket.socket, agent: str, *, on_terminal: bool, stdin: bool, escaped: bool) -> None:
        self._connection = connection
        self._agent = agent
        self._on_terminal = on_terminal
        self._keys = terminal.Keys() if on_terminal else None
        self._reader = FrameReader(frames.FROM_AGENT, streams=frozenset({frames.STDOUT, frames.STDERR}))
        # Used again and again: fresh memory for every part would cost more than copying it.
        self._arriving = memoryview(bytearray(_RECEIVED))
        self._outgoing = bytearray()
        self._reads_stdin = stdin
        self._signals: list[int] = []
        self._interrupts = 0
        self._exit: Exit | None = None
        self._lines = {1: ShownLines(), 2: ShownLines()} if escaped else None

    def run(self) -> int:
        """Return the exit code of the command. Raises Failure and Interrupted."""
        self._connection.setblocking(False)
        with ExitStack() as stack:
            woken = stack.enter_context(self._caught_signals())
            if self._on_terminal:
                stack.enter_context(terminal.raw_mode(0))
                self._send_size()
            if not self._reads_stdin and not self._on_terminal:
                self._outgoing += frames.encode(frames.EOF)
            while self._exit is None:
                self._step(woken)
        for descriptor, lines in (self._lines or {}).items():
            _write(descriptor, "".join(f"{line}\n" for line in lines.end()).encode())
        return self._exit.shell_code

    def _step(self, woken: int) -> None:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        poll.register(woken, select.POLLIN)
        if self._reads_stdin and len(self._outgoing) < _CHUNK:
            poll.register(0, select.POLLIN)
        for descriptor, events in poll.poll():
            if descriptor == woken:
                with suppress(BlockingIOError):
                    os.read(woken, 4_096)
                self._pass_on_signals()
            elif descriptor == 0:
                self._read_stdin()
            else:
                if events & (select.POLLIN | _BROKEN):
                    self._receive()
                if events & select.POLLOUT and self._exit is None:
                    self._flush()

    def _receive(self) -> None:
        try:
            count = self._connection.recv_into(self._arriving)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            raise session.broken_off(self._agent)
        try:
            for frame in self._reader.feed(self._arriving[:count]):
                self._handle(frame)
        except BadFrame as error:
            raise session.bad_frame(self._agent, error) from None

    def _handle(self, frame: Frame) -> None:
        if frame.kind in (frames.STDOUT, frames.STDERR):
            self._show(1 if frame.kind == frames.STDOUT else 2, frame.content)
        elif frame.kind == frames.EXIT:
            self._exit = frames.decode_exit(frame.content)
        elif frame.kind == frames.ERROR:
            raise session.refusal(frame.content, self._agent)
        else:
            raise BadFrame("a second answer")

    def _show(self, descriptor: int, content: bytes | memoryview) -> None:
        if self._lines is not None:
            content = "".join(f"{line}\n" for line in self._lines[descriptor].add(bytes(content))).encode()
        _write(descriptor, content)

    def _read_stdin(self) -> None:
        try:
            typed = os.read(0, _CHUNK)
        except OSError:
            typed = b""
        if not typed:
            self._reads_stdin = False
            self._outgoing += frames.encode(frames.EOF)
        elif self._keys is not None:
            passed = self._keys.take(typed)
            if passed:
                self._outgoing += frames.encode(frames.STDIN, passed)
            if self._keys.left:
                raise Interrupted(1)
        else:
            self._outgoing += frames.encode(frames.STDIN, typed)
        self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            try:
                sent = self._connection.send(self._outgoing, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:  # What has arrived says why, if anything does.
                self._outgoing.clear()
                self._reads_stdin = False
                return
            del self._outgoing[:sent]

    def _pass_on_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGWINCH:
                self._send_size()
                continue
            self._interrupts += number in (signal.SIGINT, signal.SIGTERM)
            if self._interrupts > 1 or number == signal.SIGHUP:
                raise Interrupted(128 + number)
            self._outgoing += frames.encode(frames.SIGNAL, bytes([number]))
            self._flush()

    def _send_size(self) -> None:
        if self._on_terminal:
            self._outgoing += frames.encode(frames.RESIZE, frames.WINDOW.pack(*terminal.size_of(0)))
            self._flush()

    @contextmanager
    def _caught_signals(self) -> Iterator[int]:
        """Collect signals, and yield a descriptor that is readable when there are some."""
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def caught(number: int, _: FrameType | None) -> None:
            self._signals.append(number)

        numbers = (*_PASSED_ON, signal.SIGWINCH) if self._on_terminal else _PASSED_ON
        before = {number: signal.signal(number, caught) for number in numbers}
        previous = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(woken)
            os.close(waker)


def _write(descriptor: int, content: bytes | memoryview) -> None:
    """Write all bytes, unchanged. Raises OSError."""
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # Somebody else has made it non-blocking.
            select.select([], [descriptor], [])


__all__ = ["Interrupted", "SessionFailure", "run"]
