"""Nix store paths and GC roots."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import resource
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.runtimes.nixos.build.derivations import Plan, parse_plan
from hive_core.runtimes.nixos.commands import environment, run

FEATURES = ("--extra-experimental-features", "nix-command flakes")
"""For hosts whose nix.conf does not enable them."""
_PATHS_BYTES = 8 * 1024 * 1024
_PLAN_SECONDS = 600.0
"""Nix asks substituters about every path that is missing."""
_PLAN_MEMORY = 4 * 1024**3
"""Address space of the plan: Nix reads all derivations, of which the author of the configuration chose the number."""
_ARENAS = {"MALLOC_ARENA_MAX": "2"}
"""Otherwise the allocator takes much address space for each thread on hosts with many processors (mallopt(3))."""
_AT_ONCE = 1_000
"""Paths per command: the kernel limits the length of a command line (execve(2))."""
_NAME = re.compile(r"[0-9a-z]{32}-[0-9A-Za-z+._?=-]{1,211}")


def bootable(closure: Path) -> bool:
    """Return True if the closure has an `init`; False also if it was garbage-collected."""
    return os.path.lexists(closure / "init")


class Store:
    """The store in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    async def find(cls) -> Store:
        """Ask Nix for its store. Raises HiveError `no_nix` if that fails."""
        try:
            # Old and new versions answer this, whichever features are enabled.
            answer = await run(["nix-instantiate", "--eval", "--expr", "builtins.storeDir"])
            return cls(Path(json.loads(answer)))
        except HiveError as error:
            hint = "install Nix and put `nix`, `nix-store` and `nix-instantiate` on the daemon's PATH"
            raise HiveError("no_nix", f"Nix does not work here: {error.message}", hint=hint) from None
        except ValueError:
            raise HiveError("no_nix", "Nix does not tell where its store is", hint="install Nix 2.8 or newer") from None

    @property
    def state(self) -> Path:
        """The directory of Nix's state, with the GC roots."""
        return Path(os.environ.get("NIX_STATE_DIR") or self.directory.parent / "var/nix")

    async def add(self, directory: Path, link: Path) -> str:
        """Copy a directory into the store; returns its path there, to which `link` becomes a GC root."""
        path = (await run(["nix-store", "--add", str(directory)])).strip()
        self.check(path)
        # Fails if the path was collected before there was a root.
        await run(["nix-store", "--realise", path, "--add-root", str(link)])
        return path

    async def nar_hash(self, path: str) -> str:
        """Return the hash of a path with all of its content, as lock files of flakes have it."""
        return (await run(["nix", *FEATURES, "hash", "path", str(self.check(path))])).strip()

    async def hold_derivation(self, derivation: str, link: Path) -> None:
        """Make `link` a GC root of a derivation without building it, for as long as the link exists.

        Raises HiveError `cannot_build` if the derivation was collected before.
        """

        def write() -> None:
            link.symlink_to(derivation)
            # As Nix registers roots: a link to the link, which Nix removes when that is gone.
            digest = hashlib.sha256(os.fsencode(link)).hexdigest()[:32]
            auto = self.state / "gcroots/auto" / f"hyperhive-{digest}"
            auto.parent.mkdir(parents=True, exist_ok=True)
            auto.unlink(missing_ok=True)
            auto.symlink_to(link)

        await asyncio.to_thread(write)
        try:
            await run(["nix-store", "--check-validity", str(self.check(derivation))])
        except HiveError as error:
            why = f"the derivation was removed by Nix's garbage collector: {error.message}"
            raise HiveError("cannot_build", why, hint="propose the same again", status=503) from None

    async def plan(self, derivation: str) -> Plan:
        """Ask Nix what it would build and take from substituters for a derivation. Raises BuildFailed, HiveError."""
        command = ["nix-store", "--realise", "--dry-run", str(self.check(derivation))]
        answer = await run(
            command,
            limit_bytes=_PATHS_BYTES,
            timeout=_PLAN_SECONDS,
            environment={**environment(), **_ARENAS},
            limits={resource.RLIMIT_AS: _PLAN_MEMORY},
            with_messages=True,
        )
        return parse_plan(answer, self.directory)

    async def substitute(self, paths: Sequence[str], roots: Path, seconds: float) -> None:
        """Fetch paths from the substituters of the host; nothing is built. Links below `roots` become GC roots."""
        for start in range(0, len(paths), _AT_ONCE):
            batch = [str(self.check(path)) for path in paths[start : start + _AT_ONCE]]
            command = ["nix-store", "--realise", *batch, "--add-root", str(roots / f"substitute-{start}")]
            await run(command, limit_bytes=_PATHS_BYTES, timeout=seconds)

    def check(self, closure: str) -> Path:
        """Return the path of a closure. Raises HiveError `bad_closure` if the text has not the form of one."""
        path = Path(closure)
        if str(path) != closure or path.parent != self.directory or not _NAME.fullmatch(path.name):
            shown = closure[:200]
            raise HiveError("bad_closure", f"{shown!r} is not a path in the Nix store", hint="build the proposal again")
        return path

    async def has(self, closure: str, *, held: bool = False) -> bool:
        """Return True if the closure is valid and has an `init`; False also if the text has not the form of a closure.

        `held`: a GC root keeps it. If it exists it is valid then, so Nix, which takes a moment to answer, is not asked.
        """
        try:
            path = self.check(closure)
            if not bootable(path):
                return False
            if not held:
                await run(["nix-store", "--check-validity", closure])
        except HiveError as error:
            if error.code not in ("bad_closure", "command_failed"):
                raise
            return False
        return True

    async def paths_of(self, closure: str) -> dict[str, int]:
        """Return every path of the closure, with its bytes.

        The answers of `nix-store --query` have been a path and a number in each line since before flakes, in Lix, too;
        `nix path-info --json` has had four forms. Raises HiveError `command_failed` if the closure no longer exists.
        """
        query = ["nix-store", "--query"]
        paths = (await run([*query, "--requisites", str(self.check(closure))], limit_bytes=_PATHS_BYTES)).split()
        sizes: list[int] = []
        for start in range(0, len(paths), _AT_ONCE):
            batch = paths[start : start + _AT_ONCE]
            numbers = (await run([*query, "--size", *batch])).split()
            if len(numbers) != len(batch) or not all(size.isdecimal() for size in numbers):
                raise HiveError(
                    "command_failed", "nix-store --query --size does not answer with a number for each path", status=500
                )
            sizes += map(int, numbers)
        return dict(zip(paths, sizes, strict=True))


_SOURCES = ".inputs"
"""No name of an agent begins with a dot."""
_OLD_SOURCE = ".hyperhive"
"""The link of earlier versions to the one source that they kept."""


class GcRoots:
    """The GC roots in `directory`, which are links. Nix itself registers them, and forgets those that were removed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def add(self, name: str, number: int, closure: str) -> None:
        """Keep the closure of a proposal. Another GC root must keep it until this returns."""
        await self._link(self._directory / name / str(number), closure)

    async def add_sources(self, paths: Collection[str]) -> None:
        """Keep the source of hyperhive and of its inputs, which builds use, and no longer the previous ones."""
        home = self._directory / _SOURCES
        wanted = {Path(path).name: path for path in paths}
        if await asyncio.to_thread(_held, home) == wanted.keys():
            return
        for name, path in wanted.items():
            await self._link(home / name, path)
        await asyncio.to_thread(_keep_only, self._directory, home, wanted)

    async def has_sources(self) -> bool:
        """Return True if all sources that were added last are still in the store."""
        return bool(await asyncio.to_thread(_held, self._directory / _SOURCES))

    async def hold(self, closure: str) -> bool:
        """Return True if there is a GC root to the closure."""
        return await LIFECYCLE.run(_hold, self._directory, closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the agent's GC roots to other closures.

        As long as any is kept, those with higher numbers stay: the caller may not know a build that has just ended.
        They are removed when a later one is kept.
        """
        await LIFECYCLE.run(_keep, self._directory / name, closures)

    async def _link(self, link: Path, path: str) -> None:
        await asyncio.to_thread(link.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        await run(["nix-store", "--realise", path, "--add-root", str(link)])


def _held(home: Path) -> set[str]:
    """Return the names of the links; none if one of them leads nowhere."""
    links = list(home.iterdir()) if home.is_dir() else []
    return {link.name for link in links} if all(link.exists() for link in links) else set()


def _keep_only(directory: Path, home: Path, names: Collection[str]) -> None:
    for link in home.iterdir():
        if link.name not in names:
            link.unlink()
    (directory / _OLD_SOURCE).unlink(missing_ok=True)


def _hold(directory: Path, closure: str) -> bool:
    for link in directory.glob("[!.]*/*"):
        with suppress(OSError):  # It is no link, or was just removed.
            if str(link.readlink()) == closure:
                return True
    return False


def _keep(home: Path, closures: Collection[str]) -> None:
    links = {int(link.name): link for link in home.iterdir() if link.name.isdecimal()} if home.is_dir() else {}
    kept = {number for number, link in links.items() if link.is_symlink() and str(link.readlink()) in closures}
    if closures and not kept:
        return
    newest = max(kept, default=max(links, default=0))
    for number, link in links.items():
        if number not in kept and number <= newest:
            link.unlink()
    with suppress(OSError):
        home.rmdir()
