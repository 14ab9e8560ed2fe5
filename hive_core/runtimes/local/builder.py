"""What the local runtime builds: a commit's files, checked and laid down as a closure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from hive_core.infra.git.repository import Repository
from hive_core.infra.tasks import to_the_end
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.closures import Closures
from hive_core.runtimes.comparing import compare
from hive_core.runtimes.local.config_check import Confine, check


class Builder:
    """Builds closures into `closures`; `confine` is how the parsers are run."""

    def __init__(self, closures: Closures, confine: Confine) -> None:
        self._closures = closures
        self._confine = confine

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """The closure of a commit. The same tree gives the same one. Raises BuildFailed and HiveError."""
        tree = await to_the_end(asyncio.to_thread(_tree, order))
        say(f"{order.name}: commit {order.commit[:12]}, tree {tree[:12]}")
        there = self._closures.path(order.name, tree)
        if await asyncio.to_thread(there.is_dir):
            say("the same files were built before")
            return str(there)
        place = await to_the_end(asyncio.to_thread(self._closures.workplace))
        try:
            files = place / "files"
            await to_the_end(asyncio.to_thread(_extract, order, files))
            await check(files, say, self._confine)
            return str(await to_the_end(asyncio.to_thread(self._closures.put, files, order.name, tree)))
        finally:
            await to_the_end(asyncio.to_thread(self._closures.discard, place))

    async def compare(self, old: str | None, new: str) -> list[str]:
        """What differs between two closures, in words, a line each. Raises `closure_gone` if the new one is gone."""

        def read() -> list[str]:
            after = self._closures.need(Path(new).parent.name, new)
            if old and not self._closures.has(old):
                return ["what is in force was not kept: everything is shown as new", *compare(None, after)]
            return compare(Path(old) if old else None, after)

        return await asyncio.to_thread(read)

    async def has(self, closure: str) -> bool:
        """Whether the closure is there."""
        return await asyncio.to_thread(self._closures.has, closure)

    async def need(self, name: str, closure: str) -> None:
        """Raise `closure_gone` if the closure is not there. An agent from before there were any has an empty one."""
        if closure:
            await asyncio.to_thread(self._closures.need, name, closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the closures of that agent that are not in `closures`."""
        await to_the_end(asyncio.to_thread(self._closures.keep, name, closures))


def _tree(order: BuildOrder) -> str:
    with Repository.open(order.repository) as repository:
        return repository.tree(order.commit)


def _extract(order: BuildOrder, into: Path) -> None:
    with Repository.open(order.repository) as repository:
        repository.extract(order.commit, into)
