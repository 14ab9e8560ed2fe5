"""Execution of git with a clean environment and a time limit."""

from __future__ import annotations

import io
import os
import resource
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
from hive_core.infra.processes import describe_exit
from hive_core.infra.storage.disk_space import disk_full, has_room, reports_lack_of_space

if TYPE_CHECKING:
    from subprocess import Popen


SECONDS = 60.0
"""Default time limit of a command."""
_CHUNK = 65_536
_ERRORS_KEPT = 4_096
_SMALL = 65_536
_LOW_PRIORITY = 10
"""nice(1) of a command that must not slow down others."""
_NO_PROGRAM = 127
"""Exit code of `env` if git is not installed."""


@dataclass(frozen=True)
class GitResult:
    """The result of a command: its exit code (or minus a signal) and its output."""

    status: int
    out: bytes
    errors: str


class RunningGit:
    """A running command. Read `chunks` to their end before `status`."""

    def __init__(self, process: Popen[bytes], arguments: Sequence[str], seconds: float) -> None:
        self._process = process
        self._arguments = arguments
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._errors = b""

    def chunks(self) -> Iterator[bytes]:
        """Yield the output as it arrives. Raises HiveError `git_slow` when the time limit is exceeded."""
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
        """Wait for the end of the command and return its exit code. Raises HiveError `git_slow`."""
        try:
            return self._process.wait(max(self._deadline - time.monotonic(), 1.0))
        except Exception as error:  # subprocess.TimeoutExpired, the only one that `wait` raises
            raise self._slow() from error

    @property
    def errors(self) -> str:
        """Return the end of the standard error output so far."""
        return self._errors.decode(errors="replace").strip()

    def check(self) -> None:
        """Raise HiveError `git_failed` or `disk_full` unless the command succeeded."""
        status = self.status()
        if status:
            raise failure(self._arguments, status, self.errors)

    def restrain(self, memory: int) -> None:
        """Limit the command's address space and processor time, and let every other process go before it."""
        # From now on, shortly after its start. A command that has ended is left as it is. The limit of processor time
        # ends a command whose daemon was killed.
        seconds = int(self._seconds) + 1
        with suppress(ProcessLookupError):
            resource.prlimit(self._process.pid, resource.RLIMIT_AS, (memory, memory))
            resource.prlimit(self._process.pid, resource.RLIMIT_CPU, (seconds, seconds))
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _LOW_PRIORITY)

    def end(self) -> None:
        """Kill the command if it still runs, and close its pipes."""
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
    repository: Path,
    *arguments: str,
    feed: bytes = b"",
    seconds: float = SECONDS,
    keep: Sequence[int] = (),
    memory: int | None = None,
) -> Iterator[RunningGit]:
    """Start git in a repository, and kill it at the end of the block if it still runs.

    `feed` is its complete standard input, which is there before git starts, so that git never gets only a part of it if
    the daemon is killed. `keep` are descriptors that git inherits. With `memory`, a limit of its address space in
    bytes, the command also yields the processor to everything else. Raises HiveError `git_missing`.
    """
    with _input(feed) as source:
        started = RunningGit(_start(repository, arguments, source, keep), arguments, seconds)
    try:
        if memory is not None:
            started.restrain(memory)
        yield started
    finally:
        started.end()


def run(
    repository: Path, *arguments: str, feed: bytes = b"", seconds: float = SECONDS, keep: Sequence[int] = ()
) -> GitResult:
    """Run a command with short output. Raises HiveError `git_failed` for more than 64 KiB of it."""
    with run_in_background(repository, *arguments, feed=feed, seconds=seconds, keep=keep) as command:
        found = bytearray()
        for chunk in command.chunks():
            found += chunk
            if len(found) > _SMALL:
                raise failure(arguments, 0, f"more than {_SMALL} bytes of output")
        return GitResult(command.status(), bytes(found), command.errors)


def checked(repository: Path, *arguments: str, feed: bytes = b"", seconds: float = SECONDS) -> bytes:
    """Run a command and return its output. Raises HiveError `git_failed` or `disk_full` if it fails."""
    result = run(repository, *arguments, feed=feed, seconds=seconds)
    if result.status:
        raise failure(arguments, result.status, result.errors, writes=repository)
    return result.out


def failure(arguments: Sequence[str], status: int, errors: str, *, writes: Path | None = None) -> HiveError:
    """Return the error for a command that failed. `writes` is the repository that it was to change.

    git does not always name the reason why it could not write, so it is also tried if there is room.
    """
    if reports_lack_of_space(errors, status) or not (writes is None or _has_room(writes)):
        return disk_full(f"run git {_name(arguments)}")
    if status == _NO_PROGRAM:
        return _missing(errors)
    why = f"git {_name(arguments)} failed ({describe_exit(status)}): {errors or 'no error message'}"
    return HiveError("git_failed", why, hint="see the repository with git fsck", status=500)


def _has_room(repository: Path) -> bool:
    objects = repository / "objects"
    return has_room(objects if objects.is_dir() else repository)


def _name(arguments: Sequence[str]) -> str:
    """Return the name of the git command, which options may precede."""
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
    # Complete in memory, so that no thread has to write while another reads.
    with io.BufferedRandom(io.FileIO(os.memfd_create("git", os.MFD_CLOEXEC), "r+")) as file:
        file.write(feed)
        file.seek(0)
        yield file


def _start(
    repository: Path, arguments: Sequence[str], source: io.BufferedRandom | None, keep: Sequence[int]
) -> Popen[bytes]:
    try:
        # Imported late, because it is slow and runs `git version`.
        import git  # noqa: PLC0415
    except ImportError as error:
        raise _missing(str(error)) from None
    # GitPython can only add to the daemon's environment; `env -i` starts with an empty one.
    settings = [f"{name}={value}" for name, value in SAFE.items()]
    argv = ["env", "-i", *settings, "git", f"--git-dir={repository}", *FLAGS, *arguments]
    try:
        # In a process group of its own, so that an interrupt from the terminal reaches only the daemon.
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
    first = why.strip().splitlines()[0] if why.strip() else "it is not installed"
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
"""The complete environment of a git command."""

FLAGS = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.attributesFile=/dev/null",
    "-c",
    "core.excludesFile=/dev/null",
    # Newer versions of git read .gitattributes from HEAD in a bare repository. An agent wrote that file and could
    # use it to hide changes from the diff.
    "-c",
    f"attr.tree={EMPTY_TREE}",
    "-c",
    "core.fsync=all",
    "-c",
    "gc.autoDetach=false",
)
"""Options before the name of each git command. Versions of git ignore settings that they do not know."""
