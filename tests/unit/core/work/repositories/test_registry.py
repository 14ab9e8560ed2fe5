"""Changes of registered repositories while their mirrors are in use."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hive_core.infra.database.database import Database
from hive_core.layout import Layout, make_directories
from hive_core.protocol import AddRepositoryRequest
from hive_core.work.repositories.registry import Repositories


class _Endless:
    """A fetcher that never ends, and credentials that are never there."""

    begun = asyncio.Event()

    async def fetch(self, *_: object, **__: object) -> None:
        self.begun.set()
        await asyncio.Event().wait()

    async def delete(self, _: str) -> None:
        pass


async def test_no_fetch_outlives_its_repository(tmp_path: Path) -> None:
    """A fetch that begins while its repository is being removed ends with it, and writes into no later one."""
    layout = Layout(tmp_path / "state", tmp_path / "run")
    make_directories(layout)
    database = await Database.open(layout.database)
    writing = asyncio.create_task(database.run())
    parts: dict[str, Any] = {"upstreams": SimpleNamespace(), "fetcher": _Endless(), "credentials": _Endless()}
    repositories = cast(Any, Repositories)(layout=layout, database=database, review="manager", **parts)
    await repositories.open()
    await repositories.add(AddRepositoryRequest(name="web", source="https://up.example/web.git"), "operator")
    async with repositories.lock("web"):
        removal = asyncio.create_task(repositories.remove("web", "operator"))
        await asyncio.sleep(0)
        fetch = asyncio.create_task(repositories.fetch("web"))
        await _Endless.begun.wait()
    await removal
    await asyncio.wait([fetch], timeout=5)
    assert fetch.done() and not repositories._running
    database.finish()
    await writing
    await database.close()
