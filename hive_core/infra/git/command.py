"""Execution of git with a clean environment and a time limit."""

from __future__ import annotations

import io
import os
import selectors
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from hive_core.errors import HiveError
from hive_core.infra.files import disk_full
from hive_core.infra.processes import describe_exit

if TYPE_CHECKING:
    from subprocess import Popen


SECONDS = 60.0
"""How long a command may take if nothing else is said."""
_CHUNK = 65_536
_ERRORS_KEPT = 4_096
_SMALL = 65_536
_NO_PROGRAM = 127
"""What `env` ends with if there is no git."""


@dataclass(frozen=True)
class GitResult:
    """What a command that ended gave: its exit code (or minus a signal) and what it wrote."""

    status: int
    out: bytes
    errors: str


class RunningGit:
    """A command under way. Read `chunks` to their end, then `status` says how it ended."""

    def __init__(self, process: Popen[bytes], arguments: Sequence[str], seconds: float) -> None:
        self._process = process
        self._arguments = arguments
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._errors = b""

    def chunks(self) -> Iterator[bytes]:
        """The output as it comes. Raises HiveError `git_slow` when the command's time is over."""
        out, errors = self._process.stdout, self._process.stderr
        assert out is not None and errors is not None
        with selectors.DefaultSelector() as ready:
            ready.register(out, selectors.EVENT_READ)
            ready.register(errors, selectors.EVENT_READ)
            while ready.get_map():
                left = self._deadline - time.monotonic()
                found = ready.select(left) if left > 0 else []
                if not found:
                    raise self._slow()
                for key, _ in found:
                    chunk = os.read(key.fd, _CHUNK)
                    if not chunk:
                        ready.unregister(key.fileobj)
                    elif key.fileobj is out:
                        yield chunk
                    else:
                        self._errors = (self._errors + chunk)[-_ERRORS_KEPT:]

    def status(self) -> int:
        """How the command ended, after its output has. Raises HiveError `git_slow` if it does not end."""
        try:
            return self._process.wait(max(self._deadline - time.monotonic(), 1.0))
        except Exception as error:  # subprocess.TimeoutExpired, the only one that `wait` raises
            raise self._slow() from error

    @property
    def errors(self) -> str:
        """The end of what came on standard error so far."""
        return self._errors.decode(errors="replace").strip()

    def check(self) -> None:
        """Raise HiveError `git_failed` or `disk_full` unless the command ended well."""
        status = self.status()
        if status:
            raise failure(self._arguments, status, self.errors)

    def end(self) -> None:
        """Kill what still runs of it, and release its pipes."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _slow(self) -> HiveError:
        what = f"git {_name(self._arguments)} did not end within {self._seconds:g} s"
        return HiveError("git_slow", what, hint="try again when the machine is less busy", status=503)


@contextmanager
def run_in_background(
    repository: Path, *arguments: str, feed: bytes = b"", seconds: float = SECONDS, keep: Sequence[int] = ()
) -> Iterator[RunningGit]:
    """Start git in a repository and kill it at the end if it still runs.

    `feed` is its whole standard input, there before it starts: a killed daemon cannot leave it with half of one.
    `keep` are descriptors that stay open in it. Raises HiveError `git_missing`.
    """
    with _input(feed) as source:
        started = RunningGit(_start(repository, arguments, source, keep), arguments, seconds)
    try:
        yield started
    finally:
        started.end()


def run(
    repository: Path, *arguments: str, feed: bytes = b"", seconds: float = SECONDS, keep: Sequence[int] = ()
) -> GitResult:
    """Run a command whose output is short by nature; more than 64 KiB is a HiveError `git_failed`."""
    with run_in_background(repository, *arguments, feed=feed, seconds=seconds, keep=keep) as command:
        found = bytearray()
        for chunk in command.chunks():
            found += chunk
            if len(found) > _SMALL:
                raise failure(arguments, 0, f"more than {_SMALL} bytes of output")
        return GitResult(command.status(), bytes(found), command.errors)


def checked(repository: Path, *arguments: str, feed: bytes = b"", seconds: float = SECONDS) -> bytes:
    """The output of `run`, if the command ended well; else HiveError `git_failed` or `disk_full`."""
    result = run(repository, *arguments, feed=feed, seconds=seconds)
    if result.status:
        raise failure(arguments, result.status, result.errors)
    return result.out


def failure(arguments: Sequence[str], status: int, errors: str) -> HiveError:
    """The error for a command that ended badly."""
    if "No space left on device" in errors or "Disk quota exceeded" in errors:
        return disk_full(f"run git {_name(arguments)}")
    if status == _NO_PROGRAM:
        return _missing(errors)
    why = f"git {_name(arguments)} failed ({describe_exit(status)}): {errors or 'it said nothing'}"
    return HiveError("git_failed", why, hint="see the repository with git fsck", status=500)


def _name(arguments: Sequence[str]) -> str:
    """The command's name, which options may precede."""
    left = iter(arguments)
    for argument in left:
        if argument == "-c":
            next(left, "")
        elif not argument.startswith("-"):
            return argument
    return "command"


@contextmanager
def _input(feed: bytes) -> Iterator[io.BufferedRandom | None]:
    if not feed:
        yield None
        return
    # In memory and complete, so that no thread has to write while another reads.
    with io.BufferedRandom(io.FileIO(os.memfd_create("git", os.MFD_CLOEXEC), "r+")) as file:
        file.write(feed)
        file.seek(0)
        yield file


def _start(
    repository: Path, arguments: Sequence[str], source: io.BufferedRandom | None, keep: Sequence[int]
) -> Popen[bytes]:
    try:
        # Imported here: it is slow, runs `git version`, and the daemon's start is measured.
        import git  # noqa: PLC0415
    except ImportError as error:
        raise _missing(str(error)) from None
    # GitPython adds to the daemon's environment and cannot take from it; `env -i` can.
    settings = [f"{name}={value}" for name, value in SAFE.items()]
    argv = ["env", "-i", *settings, "git", f"--git-dir={repository}", *FLAGS, *arguments]
    try:
        # A group of its own: an interrupt from the terminal is for the daemon, which then stops in order.
        process = git.Git(repository).execute(
            argv,
            istream=source,
            as_process=True,
            pass_fds=tuple(keep),
            start_new_session=True,
        )
    except git.GitCommandNotFound as error:
        raise _missing(str(error)) from None
    popen = process.proc
    assert popen is not None
    process.proc = None
    return popen


def _missing(why: str) -> HiveError:
    first = why.strip().splitlines()[0] if why.strip() else "it is not there"
    return HiveError("git_missing", f"cannot run git: {first}", hint="install git 2.36 or newer", status=500)


EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The tree without entries; git knows it without storing it."""

SAFE: Mapping[str, str] = MappingProxyType(
    {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_DEFAULT_HASH": "sha1",
        "GIT_DEFAULT_REF_FORMAT": "files",
    }
)
"""The whole environment of a git command, not an addition to the daemon's own."""

FLAGS = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.attributesFile=/dev/null",
    "-c",
    "core.excludesFile=/dev/null",
    # Newer versions of git read .gitattributes from HEAD in a bare repository. That file is an agent's: with it, a
    # change could hide itself from the diff.
    "-c",
    f"attr.tree={EMPTY_TREE}",
    "-c",
    "core.fsync=all",
    "-c",
    "gc.autoDetach=false",
)
"""Goes between `git` and the command's name. What a version of git does not know it leaves alone."""
