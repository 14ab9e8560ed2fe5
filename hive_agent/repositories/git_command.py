"""One run of git, with bounds on its time and its output."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path

_KEPT_BYTES = 64 * 1024
"""Length of the beginning of git's output that is read."""


class GitFailed(Exception):
    """A git command failed; the text says why, and what to do."""


async def run_git(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    seconds: float,
    given: str = "",
    missing: str = "the directory is missing",
    orphans: bool = True,
) -> str:
    """Run git in `directory`; returns the beginning of its output. `missing` says what a missing directory means.

    With `orphans` the processes that git leaves are killed, and no other program may be started meanwhile.
    Raises GitFailed.
    """
    from hive_agent.infra.processes import running  # noqa: PLC0415 (needs `ctypes`, which is not for harnesses at rest)

    command = next((each for each in arguments if not each.startswith("-")), "")
    try:
        async with (
            asyncio.timeout(seconds),
            running(["git", *arguments], environment, directory, orphans=orphans) as process,
        ):
            output, errors = await _converse(process, given.encode())
            code = await process.wait()
    except TimeoutError:
        raise GitFailed(f"`git {command}` in {directory} took longer than {seconds:g} s") from None
    except FileNotFoundError:
        if not await asyncio.to_thread(directory.is_dir):
            raise GitFailed(missing) from None
        raise GitFailed("git is not installed here; name the commit's full id yourself, or ask for git") from None
    except OSError as error:
        raise GitFailed(f"git could not be started: {error.strerror}") from None
    if code != 0:
        said = errors.strip() or f"exit code {code}"
        raise GitFailed(f"`git {command}` in {directory} failed: {said}")
    return output


async def _converse(process: Process, given: bytes) -> tuple[str, str]:
    """Give stdin; the beginnings of stdout and stderr, both read to their end."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    reading = asyncio.gather(_beginning(process.stdout), _beginning(process.stderr))
    try:
        process.stdin.write(given)
        process.stdin.close()
        output, errors = await reading
    finally:
        reading.cancel()
    return output, errors


async def _beginning(stream: asyncio.StreamReader) -> str:
    kept = bytearray()
    while piece := await stream.read(_KEPT_BYTES):
        kept += piece[: _KEPT_BYTES - len(kept)]
    return kept.decode(errors="replace")
