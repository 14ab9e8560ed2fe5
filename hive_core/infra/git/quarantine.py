"""Git commands that read untrusted repositories, and the quarantine for what they bring.

A quarantine is an object directory of its own beside a trusted bare repository, whose objects it can see. `git
index-pack --strict` reads a pack into it: every object is hashed anew, checked as `git fsck` does, and may refer only
to objects that are there. `accept` then moves the pack into the trusted repository; until then nothing of it is
there. The quarantine lies on the file system of the repository, in a place that may be deleted whenever no intake is
under way.

How it is confined is decided above this layer; here it is only said what it needs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hive_core.infra.files import disk_full_as_error, sync
from hive_core.infra.git.command import SAFE
from hive_core.infra.processes import Process, read_all
from hive_core.infra.tasks import shield_to_completion


class Quarantine:
    """One quarantine in the empty directory `directory`; `bare` is an own repository in which git is run."""

    def __init__(self, directory: Path, bare: Path, repository: Path) -> None:
        self._trusted = repository / "objects"
        self._objects = directory
        (directory / "pack").mkdir()
        self._bare = bare
        self._environment = environment(bare, self._objects, [self._trusted])

    def index_command(self, most: int) -> GitInvocation:
        """The command that takes in the pack on its standard input, refusing one of more than `most` bytes."""
        line = ("index-pack", "--stdin", "--strict", "--fsck-objects", "--threads=1", f"--max-input-size={most}")
        return GitInvocation(line, self._environment, (self._bare, self._trusted), (self._objects,))

    def read_command(self, *arguments: str) -> GitInvocation:
        """A command that only reads: the objects in quarantine and those of the trusted repository."""
        return GitInvocation(arguments, self._environment, (self._bare, self._trusted, self._objects))

    def accept(self) -> None:
        """Move what was taken in into the trusted repository, for good; no ref is changed. Blocks for the disk.

        Killed in the middle, it leaves at most a pack without an index there, which git does not see.
        """
        target = self._trusted / "pack"
        with disk_full_as_error("keep a proposal"):
            target.mkdir(exist_ok=True)
            # index-pack has synced the files. The index comes last: git reads a pack when it finds its index.
            for ending in (".pack", ".idx"):
                for file in sorted((self._objects / "pack").glob(f"pack-*{ending}")):
                    os.replace(file, target / file.name)  # noqa: PTH105 - the same thing, and its name says atomic
            sync(target)


_SAID_MOST = 64 * 1024

# What git would otherwise believe without looking (commit-graph, multi-pack-index), map whole into memory or run in
# as many threads as there are processors.
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
    """One git command: what stands after `git`, its environment, and the directories that it may see and write."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    reads: tuple[Path, ...]
    writes: tuple[Path, ...] = ()


class GitStarter(Protocol):
    """Starts a git command with limits on memory, time and file size.

    The caller sends it nothing on `stdin` before this returns; only then are the limits sure to hold.
    """

    def __call__(self, call: GitInvocation, stdin: int, stdout: int | None = None) -> Process: ...


@dataclass(frozen=True)
class GitEnd:
    """How a command ended: its exit code or minus a signal, and what it said (its first 64 KiB)."""

    status: int
    output: str


def create_bare_repository(directory: Path) -> Path:
    """Make a repository of our own at `place`, empty and never written to: with it, git reads no other's settings."""
    for name in ("objects", "refs"):
        (directory / name).mkdir(parents=True)
    (directory / "HEAD").write_text("ref: refs/heads/none\n")
    (directory / "config").write_text(CONFIG)
    return directory


def environment(repository: Path, objects: Path | None, others: Iterable[Path]) -> dict[str, str]:
    """Git's environment: it works in `repository`, writes to `objects` if given, and reads from `others` too."""
    found = {**SAFE, "GIT_DIR": str(repository), "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(map(_quoted, others))}
    return found if objects is None else {**found, "GIT_OBJECT_DIRECTORY": str(objects)}


def pipe() -> tuple[int, int]:
    """A pipe that only those children get to whom it is given: its read end and its write end."""
    return os.pipe2(os.O_CLOEXEC)


async def finish(process: Process) -> GitEnd:
    """Wait until a command and all that it started have ended."""
    said = await read_all(process.output, _SAID_MOST)
    return GitEnd(await process.wait(), said.decode(errors="replace"))


@asynccontextmanager
async def ended(process: Process) -> AsyncIterator[Process]:
    """Kill what still runs of a command when the block is left, wait until it is gone, release its descriptors."""
    try:
        yield process
    finally:
        # Also when its time is up in the middle: nothing is released before it has ended.
        await shield_to_completion(_end(process))


async def _end(process: Process) -> None:
    if not process.ended:
        process.kill()
        # A sandbox's processes end a moment after the one that set it up; the pipe ends with the last of them.
        await read_all(process.output, 0)
        await process.wait()
    process.close()


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
