"""Closures that Nix may not collect: links `<agent>/<number>` in a directory of ours, which Nix knows as its roots."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from hive_core.runtimes.nixos.commands import run

_SOURCE = ".hyperhive"
"""No agent's name begins with a dot."""


class Roots:
    """The links in `directory`. Nix is told of each by Nix itself, and forgets those that are gone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def add(self, name: str, number: int, closure: str) -> None:
        """Keep the closure as that of this proposal. It must be safe until this returns, by a root of its own."""
        await self._link(self._directory / name / str(number), closure)

    async def add_source(self, path: str) -> None:
        """Keep the source of hyperhive that builds begin with, and let go of the one before."""
        link = self._directory / _SOURCE
        if not (link.is_symlink() and str(link.readlink()) == path and link.exists()):
            await self._link(link, path)

    async def hold(self, closure: str) -> bool:
        """Whether there is a root to the closure."""
        return await asyncio.to_thread(_hold, self._directory, closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Give up the agent's roots to other closures.

        Those of higher numbers than all that are kept stay as long as any is kept: a build that has just ended is not
        yet known to whoever asks. They go when a later one is kept.
        """
        await asyncio.to_thread(_keep, self._directory / name, closures)

    async def _link(self, link: Path, path: str) -> None:
        await asyncio.to_thread(link.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        await run(["nix-store", "--realise", path, "--add-root", str(link)])


def _hold(directory: Path, closure: str) -> bool:
    for link in directory.glob("*/*"):
        with suppress(OSError):  # It is no link, or has just gone.
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
