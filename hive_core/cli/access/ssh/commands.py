"""Commands and shells of SSH as sessions of the agent; sftp is a command, too."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Sequence
from typing import Any

import asyncssh

from hive_core.cli.access.session import bad_frame, broken_off, refusal
from hive_core.cli.access.ssh.link import Link
from hive_core.cli.access.ssh.openings import Openings
from hive_core.cli.errors import Failure
from hive_core.protocol.access import frames
from hive_core.protocol.access.frames import BadFrame, FrameReader
from hive_core.protocol.access.opening import Opening, Terminal
from hive_core.protocol.access.requests import MOST_VARIABLES

_FAILED = 255
"""The exit code of ssh for a session that could not begin."""
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{0,127}")
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_MOST_CELLS = 65_535
_SFTP_SERVERS = (
    "/etc/hyperhive/sftp-server",
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)
SFTP = (
    "sh",
    "-c",
    f'for server in {" ".join(_SFTP_SERVERS)}; do [ -x "$server" ] && exec "$server"; done; exec hive-ag3nt sftp',
)
"""The command that serves sftp in the agent: OpenSSH's program if the agent has it, else the hive's."""


class AgentCommand(asyncssh.SSHServerSession[bytes]):
    """A session of SSH that runs one command, or a shell, in the agent."""

    def __init__(self, openings: Openings, ended: Callable[[], None]) -> None:
        self._openings = openings
        self._ended = ended
        self._channel: Any = None
        self._terminal: Terminal | None = None
        self._argv: Sequence[str] = ()
        self._link: _CommandLink | None = None
        self._early: list[tuple[int, bytes]] = []
        """Frames for the agent from before the session was open."""
        self._starting: asyncio.Task[None] | None = None

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def pty_requested(self, term_type: str, term_size: Any, term_modes: object) -> bool:
        columns, rows = _window(term_size[0], term_size[1])
        self._terminal = Terminal(columns, rows, term_type if _TERM.fullmatch(term_type) else "xterm")
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._argv = ("sh", "-c", command)
        return "\0" not in command

    def subsystem_requested(self, subsystem: str) -> bool:
        self._argv = SFTP
        return subsystem == "sftp"

    def session_started(self) -> None:
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        self._channel.pause_reading()  # Here, because asyncssh begins to read after `session_started`.
        opening = Opening("run", argv=tuple(self._argv), terminal=self._terminal, environment=_variables(self._channel))
        try:
            connection = await self._openings.open(opening)
        except Failure as failure:
            self._fail(failure)
            return
        except OSError as error:
            self._fail(Failure("no_session", f"the session cannot be opened: {error.strerror}"))
            return
        link = _CommandLink(self._channel, self._openings.agent, self._fail)
        await link.attach(connection)
        self._link = link
        for kind, content in self._early:
            link.send(kind, content)
        self._early.clear()
        if not self._channel.is_closing():
            self._channel.resume_reading()

    def _fail(self, failure: Failure) -> None:
        if not self._channel.is_closing():
            self._channel.write_stderr(f"hive-c0re: {failure.format_message()}\n".encode())
            self._channel.exit(failure.exit_code if failure.exit_code > 1 else _FAILED)

    def data_received(self, data: bytes, datatype: object) -> None:
        self._send(frames.STDIN, data)

    def eof_received(self) -> bool:
        self._send(frames.EOF)
        return True  # The output stays open.

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        columns, rows = _window(width, height)
        self._send(frames.RESIZE, frames.WINDOW.pack(columns, rows))

    def signal_received(self, signame: str) -> None:
        number = getattr(signal, f"SIG{signame}", None)
        if number in frames.SIGNALS:
            self._send(frames.SIGNAL, bytes([number]))

    def _send(self, kind: int, content: bytes = b"") -> None:
        if self._link is not None:
            self._link.send(kind, content)
        else:
            self._early.append((kind, content))

    def break_received(self, msec: int) -> bool:
        return False

    def pause_writing(self) -> None:
        if self._link is not None:
            self._link.pause_reading()

    def resume_writing(self) -> None:
        if self._link is not None:
            self._link.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()
        if self._starting is not None:
            self._starting.cancel()
        if self._link is not None:
            self._link.close()


class _CommandLink(Link):
    """The agent's end of a command: frames."""

    def __init__(self, channel: Any, agent: str, fail: Callable[[Failure], None]) -> None:
        super().__init__(channel)
        self._agent = agent
        self._fail = fail
        self._reader = FrameReader(frames.FROM_AGENT)

    def send(self, kind: int, content: bytes = b"") -> None:
        """Send a frame to the agent."""
        self.write(frames.encode(kind, content))

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._take(frame.kind, bytes(frame.content))
        except BadFrame as error:
            self._fail(bad_frame(self._agent, error))
            self.close()

    def _take(self, kind: int, content: bytes) -> None:
        if self.channel.is_closing():
            return
        if kind == frames.STDOUT:
            self.channel.write(content)
        elif kind == frames.STDERR:
            self.channel.write_stderr(content)
        elif kind == frames.EXIT:
            self._exit(frames.decode_exit(content))
        elif kind == frames.ERROR:
            self._fail(refusal(content, self._agent))
        else:
            raise BadFrame("a second answer")

    def _exit(self, end: frames.Exit) -> None:
        if not end.signal:
            self.channel.exit(end.code)
            return
        try:
            name = signal.Signals(end.signal).name.removeprefix("SIG")
        except ValueError:
            self.channel.exit(end.shell_code)
        else:
            self.channel.exit_with_signal(name)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(broken_off(self._agent))  # No effect after an exit.


def _window(columns: int, rows: int) -> tuple[int, int]:
    return min(columns, _MOST_CELLS), min(rows, _MOST_CELLS)


def _variables(channel: Any) -> dict[str, str]:
    """Return the variables that the client sends; what an agent cannot take is left out."""
    found: dict[str, str] = {}
    for name, value in channel.get_environment_bytes().items():
        if _NAME.fullmatch(name) and b"\0" not in value and len(found) < MOST_VARIABLES:
            found[name.decode()] = value.decode(errors="replace")
    return found
