"""The way of an agent's branches into a repository of their own on this host."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from hive_core.cli.access import session
from hive_core.cli.access.frame_stream import FrameStream
from hive_core.cli.access.git.find import FIND
from hive_core.cli.access.git.limits import FetchLimits, too_much
from hive_core.cli.access.git.target import OPTIONS, Target, say
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.protocol.access import frames
from hive_core.protocol.access.opening import Opening
from hive_core.text import escaped_line, format_bytes

_CHUNK = 64 * 1024
_NAME_BYTES = 256
_BRANCH = re.compile(rb"refs/heads/[^\x00-\x20\x7f~^:?*\[\\]+")
_LOOK = "look at its repository first: hive-c0re exec NAME -- git -C /code/REPO branch"
_UPLOAD = (
    FIND
    + """\
git for-each-ref --format='%(refname)' refs/heads && echo &&
exec git upload-pack "$(git rev-parse --absolute-git-dir)"
"""
)


class Transfer:
    """The way of an agent's branches into the repository in `directory`."""

    def __init__(
        self, client: Client, agent: str, repository: str, target: Target, directory: Path, limits: FetchLimits
    ) -> None:
        self._agent = agent
        self._target = target
        self._directory = directory
        self._limits = limits
        self._left = limits.bytes
        self._over = ""
        self._git: subprocess.Popen[bytes] | None = None
        opening = Opening("run", argv=("sh", "-c", _UPLOAD, "fetch", repository), directory="/")
        self._connection = session.open_session(client, agent, opening)
        self._stream = FrameStream(self._connection, agent)

    def run(self) -> int:
        """Fetch the branches, and return git's exit code. Raises Failure."""
        timer = threading.Timer(self._limits.seconds, self._stop)
        timer.daemon = True
        with closing(self._connection):
            timer.start()
            try:
                branches, rest = self._branches()
                code = self._fetch(branches, rest) if branches else 0
            except Failure:
                if not self._over:
                    raise
            finally:
                timer.cancel()
        if self._over:
            raise too_much(self._agent, self._over)
        if code and self._stream.errors:
            raise self._refused()
        return code

    def _stop(self) -> None:
        self._over = f"has not sent everything within {self._limits.seconds:g} s"
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._kill()

    def _kill(self) -> None:
        """End git and what it has started, which may compute for long without reading."""
        if self._git is not None and self._git.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._git.pid, signal.SIGKILL)

    def _branches(self) -> tuple[list[bytes], bytes]:
        """Return the names of the agent's branches, and what has come after their list."""
        most = self._limits.branches
        text = b"\n"
        while True:
            names, end, rest = text.partition(b"\n\n")
            branches = names.split(b"\n")[1:]
            if len(branches) > most or len(names) > most * _NAME_BYTES:
                raise too_much(self._agent, f"has more than {most:,} branches")
            if end:
                break
            if not (data := self._stream.read(_CHUNK)):
                raise self._refused()
            text += data
        # A pattern would stand for any number of them.
        if not all(map(_BRANCH.fullmatch, branches)):
            raise Failure("cannot_fetch", f"{self._agent} names branches that git does not know", hint=_LOOK)
        return branches, rest

    def _fetch(self, branches: Sequence[bytes], rest: bytes) -> int:
        ours, theirs = socket.socketpair()
        with ours, tempfile.TemporaryFile() as wanted:
            wanted.write(b"".join(b"+%b:%b\n" % (name, name) for name in branches))
            wanted.seek(0)
            with theirs:
                line = ("fetch", "--quiet", *OPTIONS, "--stdin", f"fd::{theirs.fileno()}")
                self._git = git = self._target.git(
                    *line,
                    place=self._directory,
                    pass_fds=[theirs.fileno()],
                    stdin=wanted,
                    stderr=subprocess.PIPE,
                    process_group=0,
                )
            # Before it gets the first byte, and starts the program that takes the pack.
            _, hard = resource.prlimit(git.pid, resource.RLIMIT_DATA)
            most = self._limits.memory if hard < 0 else min(hard, self._limits.memory)
            resource.prlimit(git.pid, resource.RLIMIT_DATA, (most, most))
            threading.Thread(target=_send_requests, args=(ours, self._connection), daemon=True).start()
            # It has words of the agent's ("remote: ..."), which git passes on as they are.
            saying = threading.Thread(target=say, args=(git.stderr,), daemon=True)
            saying.start()
            try:
                self._pass_on_output(ours, rest)
            except BaseException:
                self._kill()
                raise
            finally:
                ours.shutdown(socket.SHUT_RDWR)
                code = git.wait()
                # Its messages end when the last of its processes has.
                saying.join()
        return code

    def _pass_on_output(self, git: socket.socket, data: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # Git has ended.
            while data or (data := self._stream.read(_CHUNK)):
                self._left -= len(data)
                if self._left < 0:
                    self._over = f"sends more than {format_bytes(self._limits.bytes)}"
                    self._kill()
                    return
                git.sendall(data)
                data = b""

    def _refused(self) -> Failure:
        said = escaped_line(self._stream.errors.decode(errors="replace").strip()[-600:])
        why = f"nothing was fetched: {self._agent} says: {said}"
        return Failure("cannot_fetch", why, hint="check the repository's name")


def _send_requests(git: socket.socket, connection: socket.socket) -> None:
    """Pass on what git of this host sends, in a thread of its own."""
    try:
        while data := git.recv(_CHUNK):
            _send_all(connection, frames.encode(frames.STDIN, data))
        _send_all(connection, frames.encode(frames.EOF))
    except OSError:
        pass  # One of both sides has ended, which the other thread sees.


def _send_all(connection: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[connection.send(rest, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            select.select([], [connection], [])
