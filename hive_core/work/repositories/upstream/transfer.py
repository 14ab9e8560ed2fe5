"""Transfers with an upstream: its refs, its objects, a push, and the keys of its SSH server."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import REPOSITORIES
from hive_core.infra.git.quarantine import environment, pipe
from hive_core.infra.processes import Process
from hive_core.infra.storage.disk_space import disk_full, has_room
from hive_core.runtimes.checks.disk_use import NestedTooDeep, used_bytes
from hive_core.work.repositories.refs import HEADS, TAGS, OfferedRefs, read_offered
from hive_core.work.repositories.upstream.access import UpstreamAccess, git
from hive_core.work.repositories.upstream.confinement import UpstreamCommand, UpstreamConfinement
from hive_core.work.repositories.upstream.failures import explain
from hive_core.work.repositories.upstream.output import MessageTail, Report, read_some
from hive_core.work.repositories.upstream.workspace import PREFIX, memory_file, open_pack, prepare

_CHUNK = 64 * 1024
_REF_BYTES = 250
"""Bytes of a line of a ref, on average at most."""


@dataclass(frozen=True)
class TransferLimits:
    """Limits of a transfer: its time, the time without a sign of life, bytes received, refs, and the free disk space
    that is left alone.
    """

    seconds: float = 3_600.0
    silent_seconds: float = 300.0
    bytes: int = 16 * 1024**3
    refs: int = 50_000
    reserve: int = 1024**3


class Upstreams:
    """Carries out transfers, each in an own directory below `scratch`."""

    def __init__(self, confinement: UpstreamConfinement, scratch: Path, limits: TransferLimits) -> None:
        self.confinement = confinement
        self.limits = limits
        self._scratch = scratch

    async def list_refs(self, access: UpstreamAccess) -> OfferedRefs:
        """Ask upstream for its branches and tags.

        Raises HiveError as `explain` does, `too_many_refs`, `bad_upstream`.
        """
        access.check()
        most = self.limits.refs * 2 * _REF_BYTES + _CHUNK
        async with self._directory(access) as directory:
            line = git("ls-remote", "--symref", "--", access.source.url, "HEAD", f"{HEADS}*", f"{TAGS}*")
            text = await self._run(access, directory, line, most=most)
        if len(text) > most:
            why = f"upstream's list of refs has more than {most // 1024**2} MiB"
            hint = "raise repositories.refs in the settings, or remove refs upstream"
            raise HiveError("too_many_refs", why, hint=hint, status=502)
        return await REPOSITORIES.run(_parse, text, self.limits.refs)

    async def ref_value(self, access: UpstreamAccess, ref: str) -> str | None:
        """Return the object that a ref of upstream holds, None if there is no such ref."""
        access.check()
        async with self._directory(access) as directory:
            line = git("ls-remote", "--", access.source.url, ref)
            text = await self._run(access, directory, line, most=_CHUNK)
        for each in text.decode(errors="replace").splitlines():
            value, _, name = each.partition("\t")
            if name == ref:
                return value
        return None

    @asynccontextmanager
    async def fetched_pack(
        self, access: UpstreamAccess, mirror: Path, wanted: Sequence[str], report: Report
    ) -> AsyncIterator[int | None]:
        """Fetch the objects of these ids, and what they need; yields a descriptor of the pack, None if there is none.

        The pack is what upstream has sent: nothing of it is verified. Raises HiveError as `explain` does.
        """
        access.check()
        async with self._directory(access) as directory:
            objects = directory / "objects"
            variables = environment(directory / "bare", objects, [mirror / "objects"])
            line = git(
                "fetch",
                "--stdin",
                "--progress",
                "--no-tags",
                "--no-write-fetch-head",
                "--no-auto-maintenance",
                "--no-recurse-submodules",
                "--",
                access.source.url,
            )
            feed = "".join(f"{each}\n" for each in wanted).encode()
            reads = (mirror,)
            await self._run(access, directory, line, variables, reads, (objects,), report=report, feed=feed)
            descriptor = await REPOSITORIES.run(open_pack, objects / "pack")
            try:
                yield descriptor
            finally:
                if descriptor is not None:
                    os.close(descriptor)

    async def push(
        self, access: UpstreamAccess, mirror: Path, repository: Path, commit: str, ref: str, report: Report
    ) -> None:
        """Push a commit of `repository`, which may borrow objects of the mirror, to a ref; never with force.

        Raises HiveError `upstream_moved` if upstream refuses because it is no fast-forward, and as `explain` does.
        """
        access.check()
        async with self._directory(access) as directory:
            variables = environment(directory / "bare", None, [repository / "objects", mirror / "objects"])
            line = git("push", "--progress", "--no-verify", "--porcelain", "--", access.source.url, f"{commit}:{ref}")
            reads = tuple(dict.fromkeys((mirror, repository)))
            await self._run(access, directory, line, variables, reads, report=report, merge=True)

    async def scan_host_keys(self, access: UpstreamAccess) -> list[str]:
        """Return the lines of known_hosts(5) with the keys that an SSH server shows now."""
        source = access.source
        port = str(source.port or 22)
        line = ("ssh-keyscan", "-T", "15", "-p", port, "--", source.host.strip("[]"))
        async with self._directory(access) as directory:
            text = await self._run(access, directory, line, secret=False, most=_CHUNK)
        lines = [each.strip() for each in text.decode("ascii", "replace").splitlines()]
        found = [each for each in lines if each and not each.startswith("#") and each.split()[0] == source.known_host]
        if not found:
            hint = "check its name and port, and that this host reaches it"
            raise HiveError(
                "upstream_unreachable", f"{source.host} has shown no SSH key on port {port}", hint=hint, status=502
            )
        return sorted(found)[:10]

    @asynccontextmanager
    async def _directory(self, access: UpstreamAccess) -> AsyncIterator[Path]:
        directory = Path(await REPOSITORIES.run(tempfile.mkdtemp, prefix=PREFIX, dir=self._scratch))
        try:
            await shield_to_completion(REPOSITORIES.run(prepare, directory, access))
            yield directory
        finally:
            await shield_to_completion(REPOSITORIES.run(shutil.rmtree, directory, ignore_errors=True))

    async def _run(
        self,
        access: UpstreamAccess,
        directory: Path,
        argv: tuple[str, ...],
        variables: dict[str, str] | None = None,
        reads: tuple[Path, ...] = (),
        writes: tuple[Path, ...] = (),
        *,
        report: Report = lambda _: None,
        feed: bytes = b"",
        most: int = 0,
        secret: bool = True,
        merge: bool = False,
    ) -> bytes:
        """Run a command and return at most `most` + 1 bytes of its output. Raises HiveError if it fails.

        With `merge`, its output counts as messages.
        """
        allowed = await self._allowed_bytes()
        command = UpstreamCommand(
            argv,
            {**access.environment(directory), "GIT_DIR": str(directory / "bare"), **(variables or {})},
            (directory, *reads),
            writes,
            access.secret if secret else None,
            self.limits.seconds,
            allowed,
        )
        source, sink = pipe()
        os.set_blocking(source, False)
        given = memory_file(feed)
        try:
            async with asyncio.timeout(self.limits.seconds):
                async with self.confinement.run(command, given, None if merge else sink) as process:
                    os.close(sink)
                    sink = -1
                    lines = MessageTail(report)
                    text = await self._watched(process, source, lines, most, _Received(access.received, writes))
                    status = await process.wait() if len(text) <= most or not most else 0
        except TimeoutError:
            why = f"the transfer took longer than {self.limits.seconds:g} s, or nothing came for a long time"
            hint = "try again later, or raise repositories.transfer_seconds in the settings"
            raise HiveError("upstream_slow", why, hint=hint, status=502) from None
        finally:
            for descriptor in (source, sink, given):
                if descriptor is not None and descriptor >= 0:
                    os.close(descriptor)
        if status:
            room = await REPOSITORIES.run(has_room, self._scratch)
            raise explain(status, lines.text, file_bytes=allowed, room=room)
        return text

    async def _watched(
        self, process: Process, source: int, lines: MessageTail, most: int, received: _Received
    ) -> bytes:
        """Read both outputs until they end, the first beyond `most` bytes, or nothing comes, or the disk gets full."""
        loop = asyncio.get_running_loop()
        last = loop.time()

        def alive() -> None:
            nonlocal last
            last = loop.time()

        async def watch() -> None:
            while True:
                await asyncio.sleep(min(1.0, self.limits.silent_seconds / 4))
                if loop.time() - last > self.limits.silent_seconds:
                    raise TimeoutError
                if (await REPOSITORIES.run(shutil.disk_usage, self._scratch)).free < self.limits.reserve // 2:
                    raise disk_full("store what upstream sends")
                await received.tell()

        reading = asyncio.gather(read_some(source, most, alive), lines.follow(process.output, alive))
        watching = asyncio.ensure_future(watch())
        try:
            await asyncio.wait((reading, watching), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            return (await reading)[0]
        finally:
            for task in (reading, watching):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _allowed_bytes(self) -> int:
        """Return how large a file may become: it is copied once, and space is left for the hive.

        Raises HiveError `disk_full`.
        """
        free = (await REPOSITORIES.run(shutil.disk_usage, self._scratch)).free
        allowed = min(self.limits.bytes, (free - self.limits.reserve) // 2)
        if allowed < 1024**2:
            raise disk_full("fetch a repository")
        return allowed


@dataclass
class _Received:
    """Tells how much the directories that a command writes have grown since the last time."""

    say: Callable[[int], None]
    directories: Sequence[Path]
    last: int = 0

    async def tell(self) -> None:
        if self.directories:
            now = await REPOSITORIES.run(_used, self.directories)
            self.say(max(0, now - self.last))
            self.last = now


def _used(directories: Sequence[Path]) -> int:
    with suppress(NestedTooDeep):
        return used_bytes(directories)
    return 0


def _parse(text: bytes, most: int) -> OfferedRefs:
    return read_offered(text.decode(errors="replace").splitlines(), most)
