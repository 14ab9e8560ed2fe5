"""A `dashboard.sock` with endpoints of a test, and people who are signed in on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import aiohttp
from yarl import URL

from hive_core.api.endpoint import ApiCall, Caller, Endpoint
from hive_core.api.rules import EndpointRule, Subject
from hive_core.api.sockets import DashboardSocket, PeopleAuthority
from hive_core.api.sockets.authority import SubjectLookup
from hive_core.errors import HiveError, not_found
from hive_core.people.ownership.sight import ADMINS
from hive_core.people.records import not_signed_in
from hive_core.people.signed_in import SignedIn
from hive_core.protocol import Done
from hive_core.protocol.names import MANAGER

PEOPLE = {
    "hs_vera": SignedIn("vera", "viewer", "session", 1),
    "hs_olaf": SignedIn("olaf", "operator", "session", 2),
    "hs_otto": SignedIn("otto", "operator", "session", 3),
    "hs_root": SignedIn("root", "admin", "session", 4),
    "ht_olaf": SignedIn("olaf", "operator", "token", 5),
    "ht_part": SignedIn("root", "admin", "token", 6, frozenset({"bob"})),
}
"""Credentials, and who has them."""
OWNERS = {MANAGER: ADMINS, "ada": "olaf", "bob": "otto", "viv": "vera"}


class Seen(NamedTuple):
    """An answer: its status, its headers, and its bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@dataclass
class PeopleHive:
    """A socket with one directory of agents; `refusals` and `looks` are what would be audited."""

    endpoints: Sequence[Endpoint]
    owners: dict[str, str]
    people: dict[str, SignedIn]
    agents: set[str]
    refusals: list[tuple[str, str]]
    looks: list[tuple[str, str]]
    session: aiohttp.ClientSession | None = None
    authority: PeopleAuthority | None = None

    async def ask(
        self, credential: str | None, method: str, path: str, body: object = None, headers: Mapping[str, str] = {}
    ) -> Seen:
        """Ask with a credential, or as a visitor."""
        assert self.session is not None
        return await send(self.session, credential, method, path, body, headers)

    async def identify(self, credential: str) -> SignedIn:
        """Return who has the credential."""
        await asyncio.sleep(0)
        if credential not in self.people:
            raise not_signed_in()
        return self.people[credential]

    async def refused(self, caller: Caller, request: str, error: HiveError) -> None:
        self.refusals.append((caller.actor, error.code))

    async def looked(self, caller: Caller, agent: str) -> None:
        self.looks.append((caller.actor, agent))


async def send(
    session: aiohttp.ClientSession,
    credential: str | None,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] = {},
) -> Seen:
    """Send a request with a credential, or as a visitor."""
    sent = {**headers, **({} if credential is None else {"Authorization": f"Bearer {credential}"})}
    url = URL(f"http://hive{path}", encoded=True)
    async with session.request(method, url, json=body, headers=sent) as response:
        return Seen(response.status, response.headers, await response.read())


@asynccontextmanager
async def asking_of(place: Path) -> AsyncIterator[Callable[..., Awaitable[Seen]]]:
    """Yield what sends requests to a socket."""
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place))) as session:
        yield partial(send, session)


def unknown(name: str) -> HiveError:
    """The answer for an agent that is not there."""
    return not_found("unknown_agent", f"there is no agent {name!r}", "look")


def answering(rule: EndpointRule | None, path: str = "/v1/x", method: Literal["GET", "POST"] = "GET") -> Endpoint:
    """Return an endpoint that does nothing."""

    async def handle(_: ApiCall) -> Done:
        return Done()

    return Endpoint(method, path, "Do nothing", handle, Done, rule=rule)


def lookups(hive: PeopleHive) -> dict[Subject, SubjectLookup]:
    """Return the look-up of agents by the path."""

    async def find(call: ApiCall) -> str:
        if call.path["name"] not in hive.agents:
            raise unknown(call.path["name"])
        return call.path["name"]

    return {"agent": SubjectLookup(find, lambda call: unknown(call.path["name"]))}


@asynccontextmanager
async def people_hive(directory: Path, make: Callable[[PeopleHive], Sequence[Endpoint]]) -> AsyncIterator[PeopleHive]:
    """Serve the endpoints that `make` returns. Paths of sockets are short, so `directory` has to be."""
    hive = PeopleHive([], dict(OWNERS), dict(PEOPLE), {*OWNERS, "zoe"}, [], [])
    hive.endpoints = make(hive)
    hive.authority = PeopleAuthority(hive.identify, hive.owners, lookups(hive), hive.looked)
    place = directory / "d"
    socket = DashboardSocket(place, "", list(hive.endpoints), hive.authority, hive.refused, lambda *_: None)
    await socket.open()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place))) as hive.session:
            yield hive
    finally:
        await socket.close()
