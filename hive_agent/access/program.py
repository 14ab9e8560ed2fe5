"""The program of a session: its start with pipes or on a terminal, its signals and its end."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hive_agent.access.refusal import Refusal
from hive_core.protocol.access import frames
from hive_core.protocol.access.opening import Terminal

_PIPE_BYTES = 1024 * 1024
"""Size of the pipes: programs with large output then wait less often."""
_GRACE_SECONDS = 5.0
"""Time between SIGHUP and SIGKILL for a program whose caller has gone."""


class SessionProgram:
    """A running program, which leads a session (setsid(2)) of its own.

    `outputs` are the descriptors to read with the types of their frames; `stdin` is the one to write to, None when it
    is closed.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], stdin: int | None, outputs: dict[int, int], terminal: int | None
    ) -> None:
        self.process = process
        self.stdin = stdin
        self.outputs = outputs
        self.exited = os.pidfd_open(process.pid)
        self._terminal = terminal

    def close_stdin(self) -> None:
        """End the program's input. On a terminal that is a character that the caller types."""
        if self.stdin is not None and self._terminal is None:
            os.close(self.stdin)
            self.stdin = None

    def close_output(self, descriptor: int) -> None:
        """Stop reading a descriptor that has ended."""
        del self.outputs[descriptor]
        if descriptor != self._terminal:
            os.close(descriptor)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the terminal, if there is one."""
        if self._terminal is not None:
            _set_size(self._terminal, columns, rows)

    def signal(self, number: int) -> None:
        """Send a signal to the program and what it has started; on a terminal to those in the foreground."""
        group = self.process.pid
        if self._terminal is not None:
            with suppress(OSError):
                group = os.tcgetpgrp(self._terminal) or group
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)

    def end(self) -> None:
        """End the program because its caller has gone: what it has started in the background may go on."""
        if self._terminal is not None:
            os.close(self._terminal)  # The kernel sends SIGHUP to those in the foreground.
        for number, seconds in ((signal.SIGHUP, _GRACE_SECONDS), (signal.SIGKILL, None)):
            if self.process.poll() is not None:
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
                os.killpg(self.process.pid, signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)

    def wait(self) -> frames.Exit:
        """Return the end of a program that has exited."""
        code = self.process.wait()
        return frames.Exit(0, -code) if code < 0 else frames.Exit(code, 0)


def start(
    argv: Sequence[str], environment: Mapping[str, str], directory: str, terminal: Terminal | None = None
) -> SessionProgram:
    """Start a program. Raises Refusal `no_directory`, `no_program`, `not_executable` or `not_started`."""
    if not Path(directory).is_dir():
        raise Refusal("no_directory", f"there is no directory {directory} in the agent")
    try:
        if terminal is None:
            return _start_with_pipes(argv, environment, directory)
        return _start_on_terminal(argv, environment, directory, terminal)
    except FileNotFoundError:
        raise Refusal("no_program", f"there is no program {argv[0]} in the agent") from None
    except PermissionError:
        raise Refusal("not_executable", f"{argv[0]} cannot be executed in the agent") from None
    except (OSError, ValueError) as error:
        code = "not_executable" if getattr(error, "errno", None) == errno.ENOEXEC else "not_started"
        raise Refusal(code, f"{argv[0]} cannot be started in the agent: {error}") from None


def _start_with_pipes(argv: Sequence[str], environment: Mapping[str, str], directory: str) -> SessionProgram:
    process = subprocess.Popen(  # noqa: S603 - the caller's command is what a session is for
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=directory,
        start_new_session=True,
        bufsize=0,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    # The descriptors are this module's to close; the files around them must not do it a second time.
    stdin, stdout, stderr = (os.dup(file.fileno()) for file in (process.stdin, process.stdout, process.stderr))
    for file in (process.stdin, process.stdout, process.stderr):
        file.close()
    for descriptor in (stdin, stdout, stderr):
        os.set_blocking(descriptor, False)
        with suppress(OSError):  # The user has too many large pipes.
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return SessionProgram(process, stdin, {stdout: frames.STDOUT, stderr: frames.STDERR}, None)


def _start_on_terminal(
    argv: Sequence[str], environment: Mapping[str, str], directory: str, terminal: Terminal
) -> SessionProgram:
    ours, theirs = os.openpty()
    try:
        _set_size(theirs, terminal.columns, terminal.rows)
        process = subprocess.Popen(  # noqa: S603 - as above
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=directory,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - a session's process has one thread
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    os.set_blocking(ours, False)
    return SessionProgram(process, ours, {ours: frames.STDOUT}, ours)


def _take_terminal() -> None:
    """Make the terminal the controlling one; called in the child between fork and exec."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _set_size(terminal: int, columns: int, rows: int) -> None:
    with suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
