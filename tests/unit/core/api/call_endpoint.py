"""Asking endpoints as a caller would, through the frame, on a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
from aiohttp import web
from yarl import URL

from hive_core.api.dispatch import Dispatcher, Router
from hive_core.api.endpoint import Caller, Endpoint
from hive_core.api.sockets import make_runner


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    json: Any

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass(frozen=True)
class Asking:
    """One caller of some endpoints."""

    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None) -> Reply:
        data = None if body is None else json.dumps(body)
        url = URL(f"http://hive{path}", encoded=True)  # As it stands here: nothing in it is tidied.
        async with self.session.request(method, url, data=data) as response:
            return Reply(response.status, json.loads(await response.read()))


def caller(kind: Literal["agent", "manager", "operator"], name: str) -> Caller:
    """A caller as a socket would tell of it."""
    return Caller(name, kind, lambda: f"{kind}:{name}")


@asynccontextmanager
async def asking(endpoints: Sequence[Endpoint], who: Caller, directory: Path) -> AsyncIterator[Asking]:
    """Serve the endpoints to that caller; paths of sockets are short, so `directory` has to be."""

    async def refused(*_: object) -> None:
        """Refusals are not looked at here."""

    runner = make_runner(Dispatcher(Router(endpoints), lambda _: who, refused, lambda *_: None))
    await runner.setup()
    path = directory / "s"
    try:
        await web.UnixSite(runner, str(path)).start()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            yield Asking(session)
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)
