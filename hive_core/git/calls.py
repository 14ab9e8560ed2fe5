"""A git command that reads what an agent wrote: what it runs with, and what of the machine it has to see.

How it is confined is decided above this layer; here it is only said what it needs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hive_core.git.environment import SAFE
from hive_core.infra.processes import Process, read_all
from hive_core.infra.tasks import to_the_end

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
class Call:
    """One git command: what stands after `git`, its environment, and the directories that it may see and write."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    reads: tuple[Path, ...]
    writes: tuple[Path, ...] = ()


class Start(Protocol):
    """Starts a git command with limits on memory, time and file size.

    The caller sends it nothing on `stdin` before this returns; only then are the limits sure to hold.
    """

    def __call__(self, call: Call, stdin: int, stdout: int | None = None) -> Process: ...


@dataclass(frozen=True)
class End:
    """How a command ended: its exit code or minus a signal, and what it said (its first 64 KiB)."""

    status: int
    said: str


def bare(place: Path) -> Path:
    """Make a repository of our own at `place`, empty and never written to: with it, git reads no other's settings."""
    for name in ("objects", "refs"):
        (place / name).mkdir(parents=True)
    (place / "HEAD").write_text("ref: refs/heads/none\n")
    (place / "config").write_text(CONFIG)
    return place


def environment(repository: Path, objects: Path | None, others: Iterable[Path]) -> dict[str, str]:
    """Git's environment: it works in `repository`, writes to `objects` if given, and reads from `others` too."""
    found = {**SAFE, "GIT_DIR": str(repository), "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(map(_quoted, others))}
    return found if objects is None else {**found, "GIT_OBJECT_DIRECTORY": str(objects)}


def pipe() -> tuple[int, int]:
    """A pipe that only those children get to whom it is given: its read end and its write end."""
    return os.pipe2(os.O_CLOEXEC)


async def finish(process: Process) -> End:
    """Wait until a command and all that it started have ended."""
    said = await read_all(process.output, _SAID_MOST)
    return End(await process.wait(), said.decode(errors="replace"))


@asynccontextmanager
async def ended(process: Process) -> AsyncIterator[Process]:
    """Kill what still runs of a command when the block is left, wait until it is gone, release its descriptors."""
    try:
        yield process
    finally:
        # Also when its time is up in the middle: nothing is released before it has ended.
        await to_the_end(_end(process))


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
