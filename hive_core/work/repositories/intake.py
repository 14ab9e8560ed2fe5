"""The import of packs into mirrors.

A git without network verifies every object of a pack in a quarantine (`hive_core.infra.git.quarantine`), and only what
is whole and acceptable is moved into the mirror. The pack comes from a descriptor: a file that a transfer has received,
or a stream from the command line.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.gate.intake.confinement import Plain, Sandbox
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import REPOSITORIES
from hive_core.infra.git.quarantine import GitStarter, Quarantine, create_bare_repository, ended, finish, pipe
from hive_core.infra.processes import describe_exit
from hive_core.infra.storage.disk_space import disk_full, has_room, reports_lack_of_space
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.text import printable_line
from hive_core.work.repositories.upstream.confinement import find_program

PREFIX = "mirror-"
_MEMORY = 6 * 1024**3
_READABLE = 0o444
_QUOTED = 300
_TOLERATED = (
    "badDateOverflow",
    "badEmail",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)
"""Mistakes of old programs, which many well-known repositories have and which harm nobody."""


class MirrorImporter:
    """Imports packs into mirrors. `bwrap` is the program that confines git, or None if it does not work here."""

    def __init__(self, bwrap: str | None, scratch: Path, seconds: float) -> None:
        self._bwrap = bwrap
        self._scratch = scratch
        self._seconds = seconds

    async def import_pack(self, mirror: Path, source: int, most: int) -> None:
        """Verify the pack of at most `most` bytes that is read from `source`, and move it into the mirror durably.

        Changes no ref. Raises HiveError `bad_upstream`, `upstream_too_large`, `upstream_slow`, `disk_full`.
        """
        directory = Path(await REPOSITORIES.run(tempfile.mkdtemp, prefix=PREFIX, dir=self._scratch))
        try:
            start = await REPOSITORIES.run(self._starter, most)
            bare = await REPOSITORIES.run(create_bare_repository, directory / "bare")
            await REPOSITORIES.run((directory / "objects").mkdir)
            quarantine = Quarantine(directory / "objects", bare, mirror)
            try:
                async with asyncio.timeout(self._seconds), AsyncExitStack() as stack:
                    process = start(quarantine.index_command(most, tolerated=_TOLERATED), source)
                    await stack.enter_async_context(ended(process))
                    end = await finish(process)
            except TimeoutError:
                why = f"the check of what upstream has sent took longer than {self._seconds:g} s"
                hint = "raise repositories.transfer_seconds in the settings"
                raise HiveError("upstream_slow", why, hint=hint, status=502) from None
            if end.status:
                raise await self._failure(end.status, end.output, most)
            await REPOSITORIES.run(_open_to_readers, directory / "objects/pack")
            await shield_to_completion(REPOSITORIES.run(quarantine.accept))
        finally:
            await shield_to_completion(REPOSITORIES.run(shutil.rmtree, directory, ignore_errors=True))

    async def import_stream(self, mirror: Path, feed: Callable[[int], Awaitable[None]], most: int) -> None:
        """Import a pack that `feed` writes to a descriptor, as `import_pack` does."""
        source, sink = pipe()
        os.set_blocking(sink, False)

        async def write() -> None:
            try:
                await feed(sink)
            finally:
                os.close(sink)

        async def read() -> None:
            try:
                await self.import_pack(mirror, source, most)
            finally:
                os.close(source)

        writing, reading = asyncio.ensure_future(write()), asyncio.ensure_future(read())
        try:
            await asyncio.wait((writing, reading), return_when=asyncio.FIRST_EXCEPTION)
            if reading.done() and reading.exception() is not None:
                reading.result()  # Its refusal says more than the broken pipe that it leaves.
            await writing
            await reading
        finally:
            for task in (writing, reading):
                task.cancel()
            await asyncio.wait((writing, reading))
            for task in (writing, reading):
                if not task.cancelled():
                    task.exception()

    def _starter(self, most: int) -> GitStarter:
        git = Path(find_program("git")).resolve()
        limits = {
            resource.RLIMIT_AS: _MEMORY,
            resource.RLIMIT_CPU: max(1, round(self._seconds)),
            resource.RLIMIT_FSIZE: most,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: 1_024,
        }
        if self._bwrap is None:
            return Plain(git, limits)
        return Sandbox(self._bwrap, inspect_host(python=()), git, limits)

    async def _failure(self, status: int, output: str, most: int) -> HiveError:
        if reports_lack_of_space(output, status) or "exceeds maximum allowed size" in output:
            if not await REPOSITORIES.run(has_room, self._scratch):
                return disk_full("store what upstream sends")
            why = f"upstream sends more than the {most // 1024**2:,} MiB that are allowed"
            hint = "raise repositories.transfer_bytes in the settings if that much is right"
            return HiveError("upstream_too_large", why, hint=hint, status=502)
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        # The line about the object comes before those about the end.
        marked = [line for line in lines if line.startswith("error:")]
        said = f': "{printable_line((marked or lines)[0], _QUOTED)}"' if lines else ""
        why = f"git does not accept what upstream has sent ({describe_exit(status)}){said}"
        hint = "git fsck in the repository shows what is wrong with it; nothing was taken over"
        return HiveError("bad_upstream", why, hint=hint, status=502)


def _open_to_readers(directory: Path) -> None:
    """Let everybody read the files of a pack. Links are not followed."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise HiveError("bad_upstream", "the checked pack is no plain file", status=502)
            os.fchmod(descriptor, _READABLE)
        finally:
            os.close(descriptor)
