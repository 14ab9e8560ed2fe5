"""Git commands that read untrusted repositories, and the quarantine for the objects that they import.

A quarantine is a separate object directory beside a trusted bare repository, whose objects it can read. `git
index-pack --strict` reads a pack into it: every object is hashed again, checked as `git fsck` does, and may refer only
to existing objects. Only `accept` moves the pack into the trusted repository. The quarantine is on the file system of
the repository, in a directory that may be deleted whenever no intake is in progress.

Callers confine the commands; this module states the directories that each command needs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.git.command import SAFE
from hive_core.infra.processes import Process, read_all
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import sync


class Quarantine:
    """One quarantine in the empty directory `directory`; git runs in the daemon's empty repository `bare`.

    The objects of `repository` are trusted. Those that are accepted go into `into`, or into `repository`.
    """

    def __init__(self, directory: Path, bare: Path, repository: Path, into: Path | None = None) -> None:
        self._trusted = repository / "objects"
        self._into = (into or repository) / "objects"
        self._objects = directory
        (directory / "pack").mkdir()
        self._bare = bare
        self._environment = environment(bare, self._objects, [self._trusted])

    def index_command(self, most: int, tolerated: Sequence[str] = ()) -> GitInvocation:
        """Return the command that imports a pack of at most `most` bytes from its standard input.

        `tolerated` are messages of `git fsck` that are no reason to refuse it.
        """
        strict = "--strict=" + ",".join(f"{each}=ignore" for each in tolerated) if tolerated else "--strict"
        line = ("index-pack", "--stdin", strict, "--fsck-objects", "--threads=1", f"--max-input-size={most}")
        return GitInvocation(line, self._environment, (self._bare, self._trusted), (self._objects,))

    def read_command(self, *arguments: str) -> GitInvocation:
        """Return a command that only reads objects of the quarantine and of the trusted repository."""
        return GitInvocation(arguments, self._environment, (self._bare, self._trusted, self._objects))

    @property
    def pack_indexes(self) -> list[Path]:
        """The indexes of the imported packs."""
        return sorted((self._objects / "pack").glob("pack-*.idx"))

    def accept(self) -> None:
        """Move the imported pack durably into its repository, without changing a ref. Blocks for the disk.

        A kill leaves at most a pack without an index there, which git ignores.
        """
        target = self._into / "pack"
        with disk_full_as_error("keep a proposal"):
            target.mkdir(exist_ok=True)
            # index-pack has synced the files. The index comes last: git reads a pack when it finds its index.
            for ending in (".pack", ".idx"):
                for file in sorted((self._objects / "pack").glob(f"pack-*{ending}")):
                    os.replace(file, target / file.name)  # noqa: PTH105 - the same thing, and its name says atomic
            sync(target)


_MAX_OUTPUT_BYTES = 64 * 1024

# Disables what git would trust unchecked (commit-graph, multi-pack-index), and limits memory and threads.
CONFIG = """\
[core]
\trepositoryFormatVersion = 0
\tbare = true
\tbigFileThreshold = 1m
\tcommitGraph = false
\tmultiPackIndex = false
\tpackedGitWindowSize = 1m
\tpackedGitLimit = 64m
\tdeltaBaseCacheLimit = 32m
\tfsync = pack,pack-metadata
[pack]
\tthreads = 1
\twindowMemory = 32m
\tdeltaCacheSize = 32m
\twriteReverseIndex = false
"""


@dataclass(frozen=True)
class GitInvocation:
    """One git command: its arguments, its environment, and the directories that it may read and write."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    reads: tuple[Path, ...]
    writes: tuple[Path, ...] = ()


class GitStarter(Protocol):
    """Starts a git command with limits on memory, time and file size.

    The caller must not write to `stdin` before this returns, because only then the limits are active.
    """

    def __call__(self, call: GitInvocation, stdin: int, stdout: int | None = None) -> Process: ...


@dataclass(frozen=True)
class GitEnd:
    """The end of a command: its exit code (or minus a signal) and the first 64 KiB of its output."""

    status: int
    output: str


def create_bare_repository(directory: Path) -> Path:
    """Create an empty repository that is never written to, so that git reads only trusted settings."""
    for name in ("objects", "refs"):
        (directory / name).mkdir(parents=True)
    (directory / "HEAD").write_text("ref: refs/heads/none\n")
    (directory / "config").write_text(CONFIG)
    return directory


def environment(repository: Path, objects: Path | None, others: Iterable[Path]) -> dict[str, str]:
    """Return an environment in which git uses `repository`, writes to `objects` if given, and also reads `others`."""
    variables = {**SAFE, "GIT_DIR": str(repository), "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(map(_quoted, others))}
    return variables if objects is None else {**variables, "GIT_OBJECT_DIRECTORY": str(objects)}


def pipe() -> tuple[int, int]:
    """Return the read end and the write end of a pipe that children inherit only if it is passed to them."""
    return os.pipe2(os.O_CLOEXEC)


async def finish(process: Process) -> GitEnd:
    """Wait until a command and all processes that it started have ended."""
    output = await read_all(process.output, _MAX_OUTPUT_BYTES)
    return GitEnd(await process.wait(), output.decode(errors="replace"))


@asynccontextmanager
async def ended(process: Process) -> AsyncIterator[Process]:
    """Kill a command at the end of the block if it still runs, wait for its end and close its descriptors."""
    try:
        yield process
    finally:
        # Also after a timeout, no descriptor is closed before the command has ended.
        await shield_to_completion(_end(process))


async def _end(process: Process) -> None:
    if not process.ended:
        process.kill()
        # Processes in a sandbox end shortly after the one that created it; the pipe ends with the last of them.
        await read_all(process.output, 0)
        await process.wait()
    process.close()


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
