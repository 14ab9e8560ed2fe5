"""Confinement of programs that talk to an upstream: a transient unit, a bubblewrap sandbox, or a plain process.

All have the host's network, and see no file of the hive but those of the command: the helper files and the mirror to
read, a directory for what is received to write, and the secret of that one repository.
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hive_core.errors import HiveError
from hive_core.infra.git.quarantine import ended, pipe
from hive_core.infra.processes import Command, Process, spawn
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.runtimes.bubblewrap import CONFINING, Host
from hive_core.work.repositories.upstream.access import SECRET_VARIABLE

NICE = 10
MEMORY_BYTES = 4 * 1024**3
_SECRET_INSIDE = "/hive-secret"  # noqa: S105 - a path
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/zero")
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/ld.so.cache")
_PASSED = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_AUTHORITIES = ("GIT_SSL_CAINFO", "SSL_CERT_FILE", "NIX_SSL_CERT_FILE")


@dataclass(frozen=True)
class UpstreamCommand:
    """A program with network: its command line, its environment, and the directories that it reads and writes.

    `seconds` is its time limit, and `file_bytes` the limit of each file that it writes.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    reads: tuple[Path, ...]
    writes: tuple[Path, ...] = ()
    secret: bytes | None = field(default=None, repr=False)
    seconds: float = 3_600.0
    file_bytes: int = 1024**3


class UpstreamConfinement(Protocol):
    """Runs commands with network. `description` is what the doctor and the log call it."""

    @property
    def description(self) -> str: ...

    def run(
        self, command: UpstreamCommand, stdin: int | None, stdout: int | None
    ) -> AbstractAsyncContextManager[Process]:
        """Start the command; it has ended when the block ends. Raises HiveError `transfer_failed`."""


def host_environment() -> dict[str, str]:
    """Return the variables of the daemon that name proxies and certificate authorities."""
    return {name: os.environ[name] for name in (*_PASSED, *_AUTHORITIES) if os.environ.get(name)}


def find_program(name: str) -> str:
    """Return the path of a program. Raises HiveError `program_missing`."""
    found = shutil.which(name)
    if found is None:
        package = {"git": "git 2.36 or newer"}.get(name, "the client of OpenSSH")
        raise HiveError("program_missing", f"{name} is not installed", hint=f"install {package}", status=500)
    return found


@contextmanager
def lent_file(directory: Path, secret: bytes | None) -> Iterator[Path | None]:
    """Write a secret to a file that only the daemon can read, for the duration of the block."""
    if secret is None:
        yield None
        return
    path = directory / secrets.token_hex(8)
    try:
        with disk_full_as_error("lend a credential"):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secret)
        yield path
    finally:
        path.unlink(missing_ok=True)


def remove_lent_files(directory: Path) -> None:
    """Remove what a killed daemon has left."""
    for path in directory.iterdir() if directory.is_dir() else ():
        path.unlink(missing_ok=True)


def process_limits(command: UpstreamCommand) -> dict[int, int]:
    """Return the resource limits of a command that systemd does not limit."""
    return {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: max(1, round(command.seconds)),
        resource.RLIMIT_FSIZE: command.file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 1_024,
    }


@dataclass(frozen=True)
class PlainUpstream:
    """Runs commands as plain processes of the daemon's user, where there is no bubblewrap. `lent` holds the secrets."""

    lent: Path
    description: str = "plain processes of the daemon's user, not confined"

    @asynccontextmanager
    async def run(self, command: UpstreamCommand, stdin: int | None, stdout: int | None) -> AsyncIterator[Process]:
        with lent_file(self.lent, command.secret) as secret:
            environment = {**host_environment(), **command.environment}
            if secret is not None:
                environment[SECRET_VARIABLE] = str(secret)
            line = [find_program(command.argv[0]), *command.argv[1:]]
            process = _start(Command(line, environment, Path("/"), (), stdin, stdout, process_limits(command), NICE))
            async with ended(process):
                yield process


@dataclass(frozen=True)
class SandboxedUpstream:
    """Runs commands in bubblewrap with the host's network, without capabilities."""

    bwrap: str
    host: Host
    description: str = "a bubblewrap sandbox without capabilities"

    @asynccontextmanager
    async def run(self, command: UpstreamCommand, stdin: int | None, stdout: int | None) -> AsyncIterator[Process]:
        environment = {**host_environment(), **command.environment}
        program = find_program(command.argv[0])
        kept: list[int] = []
        writers: list[tuple[int, bytes]] = []

        def feed(content: bytes) -> int:
            source, sink = pipe()
            kept.append(source)
            writers.append((sink, content))
            return source

        try:
            secret: list[str] = []
            if command.secret is not None:
                environment[SECRET_VARIABLE] = _SECRET_INSIDE
                secret = ["--perms", "0400", "--file", str(_memory_file(command.secret, kept)), _SECRET_INSIDE]
            words = sandbox_arguments(self.host, program, command, environment)
            words += secret
            words += ["--remount-ro", "/", "--chdir", "/"]
            # bwrap waits for its arguments from the pipe, so nothing runs before the limits are set.
            line = [self.bwrap, "--args", str(feed(b"".join(os.fsencode(word) + b"\0" for word in words)))]
            line += ["--", program, *command.argv[1:]]
            limits = process_limits(command)
            process = _start(Command(line, environment, Path("/"), kept, stdin, stdout, limits, NICE))
            async with ended(process):
                for descriptor in kept:
                    os.close(descriptor)
                kept.clear()
                while writers:
                    sink, content = writers.pop()
                    with suppress(BrokenPipeError):
                        os.write(sink, content)
                    os.close(sink)
                yield process
        finally:
            for descriptor in (*kept, *(sink for sink, _ in writers)):
                os.close(descriptor)


def _memory_file(content: bytes, kept: list[int]) -> int:
    descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
    kept.append(descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def sandbox_arguments(host: Host, program: str, command: UpstreamCommand, environment: Mapping[str, str]) -> list[str]:
    """Return the arguments of bwrap for one command, in the order of mounting."""
    line = [*CONFINING, "--share-net", "--tmpfs", "/tmp"]  # noqa: S108 - a mount point
    for target, link in host.links:
        line += ["--symlink", target, link]
    shown = [str(path) for path in host.read_only]
    real = Path(program).resolve()
    if not any(real.is_relative_to(path) for path in host.read_only):
        shown.append(program)
    authorities = [environment[name] for name in _AUTHORITIES if environment.get(name)]
    for path in (*shown, *_NETWORK_FILES, *authorities):
        line += ["--ro-bind-try", path, path]
    for device in _DEVICES:
        line += ["--dev-bind", device, device]
    for directory in command.reads:
        line += ["--ro-bind", str(directory), str(directory)]
    for directory in command.writes:
        line += ["--bind", str(directory), str(directory)]
    return line


def _start(command: Command) -> Process:
    try:
        return spawn(command)
    except (OSError, ValueError) as error:
        raise HiveError("transfer_failed", f"cannot run {command.argv[0]}: {error}", status=500) from None
