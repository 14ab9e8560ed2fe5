"""The endpoints of accounts on a socket, with people, visitors and the operator on the host as callers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from hive_core.api.dispatch import Dispatcher, Router
from hive_core.api.endpoint import Caller
from hive_core.api.refusal_audit import RefusalAudit
from hive_core.api.routes.people.accounts import account_changes, account_views
from hive_core.api.routes.people.credentials import session_endpoints, token_endpoints
from hive_core.api.routes.people.sign_in import own_account, sign_in_endpoints
from hive_core.api.sockets import make_runner
from tests.unit.core.api.call_endpoint import Reply
from tests.unit.core.people.people_hive import PeopleHive, people_hive

ORIGIN = "https://hive.example"


class PeopleApi:
    """Requests to the endpoints. Without a secret they come from the operator on the host."""

    def __init__(self, hive: PeopleHive, session: aiohttp.ClientSession) -> None:
        self.hive = hive
        self._session = session
        self.headers: dict[str, str] = {}
        """The headers of the last answer."""

    async def ask(self, method: str, path: str, body: object = None, *, secret: str = "", address: str = "") -> Reply:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        if address:
            headers["Hive-Client-Address"] = address
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, f"http://hive/v1/{path}", data=data, headers=headers) as response:
            self.headers = dict(response.headers)
            return Reply(response.status, json.loads(await response.read()))


@asynccontextmanager
async def people_api(directory: Path, sockets: Path) -> AsyncIterator[PeopleApi]:
    """Serve the endpoints as `host.sock` does; paths of sockets are short, so `sockets` has to be."""
    async with people_hive(directory) as hive:
        endpoints = [
            *sign_in_endpoints(hive.people),
            *own_account(hive.people),
            *session_endpoints(hive.people),
            *token_endpoints(hive.people),
            *account_views(hive.people),
            *account_changes(hive.people, ORIGIN),
        ]
        caller = Caller("operator", "operator", lambda: "operator:root")
        refused = RefusalAudit(hive.database).record_refusal
        runner = make_runner(Dispatcher(Router(endpoints), lambda _: caller, refused, lambda *_: None))
        await runner.setup()
        try:
            await web.UnixSite(runner, str(sockets / "s")).start()
            connector = aiohttp.UnixConnector(str(sockets / "s"), limit=100)
            async with aiohttp.ClientSession(connector=connector) as session:
                yield PeopleApi(hive, session)
        finally:
            await runner.cleanup()
