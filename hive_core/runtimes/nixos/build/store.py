"""Nix store paths and GC roots."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.commands import run

FEATURES = ("--extra-experimental-features", "nix-command flakes")
"""For hosts whose nix.conf does not enable them."""
_PATHS_BYTES = 8 * 1024 * 1024
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


_SOURCE = ".hyperhive"
"""No name of an agent begins with a dot."""


class GcRoots:
    """The GC roots in `directory`, which are links. Nix itself registers them, and forgets those that were removed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def add(self, name: str, number: int, closure: str) -> None:
        """Keep the closure of a proposal. Another GC root must keep it until this returns."""
        await self._link(self._directory / name / str(number), closure)

    async def add_source(self, path: str) -> None:
        """Keep the source of hyperhive that builds use, and no longer the previous one."""
        link = self._directory / _SOURCE
        if not (link.is_symlink() and str(link.readlink()) == path and link.exists()):
            await self._link(link, path)

    async def hold(self, closure: str) -> bool:
        """Return True if there is a GC root to the closure."""
        return await asyncio.to_thread(_hold, self._directory, closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the agent's GC roots to other closures.

        As long as any is kept, those with higher numbers stay: the caller may not know a build that has just ended.
        They are removed when a later one is kept.
        """
        await asyncio.to_thread(_keep, self._directory / name, closures)

    async def _link(self, link: Path, path: str) -> None:
        await asyncio.to_thread(link.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        await run(["nix-store", "--realise", path, "--add-root", str(link)])


def _hold(directory: Path, closure: str) -> bool:
    for link in directory.glob("*/*"):
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
