"""A bare repository with many files and a long history, written as a stream for `git fast-import`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.benchmarks.plain_git import git

FILES_PER_DIRECTORY = 100
FILE_BYTES = 1_000
"""Bytes of each file of the newest commit, half of which a pack takes: they are random digits."""
OLD_FILE_BYTES = 1_000_000
"""Bytes of each file of the commits before, which are overwritten one after another."""


def make(repository: Path, files: int, history_bytes: int) -> None:
    """Make a repository whose branch `main` has so many files, and packs of about `history_bytes`."""
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet", "--bare", "--initial-branch=main")
    command = ["git", "-C", str(repository), "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        _write(process.stdin, _stream(files, history_bytes))
        process.stdin.close()
        if process.wait() != 0:
            raise RuntimeError(f"git fast-import ended with exit code {process.returncode}, see above")


def _write(stream: IO[bytes], parts: Iterator[bytes]) -> None:
    for part in parts:
        stream.write(part)


def _stream(files: int, history_bytes: int) -> Iterator[bytes]:
    old_commits = max(1, (history_bytes - files * FILE_BYTES) // OLD_FILE_BYTES)
    for number in range(old_commits):
        yield _commit(number, b"An old version")
        yield b"M 100644 inline large.bin\n" + _data(os.urandom(OLD_FILE_BYTES))
    yield _commit(old_commits, b"Many files")
    yield b"D large.bin\n"
    for number in range(files):
        path = f"d{number // FILES_PER_DIRECTORY // 100}/d{number // FILES_PER_DIRECTORY}/f{number}.txt"
        yield f"M 100644 inline {path}\n".encode() + _data(os.urandom(FILE_BYTES // 2).hex().encode())


def _commit(number: int, message: bytes) -> bytes:
    who = b"bench <bench@hive> %d +0000" % (1_700_000_000 + number)
    return b"commit refs/heads/main\ncommitter %s\n%s" % (who, _data(message))


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
