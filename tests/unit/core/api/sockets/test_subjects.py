"""The authorisation matrix: every endpoint for people, with every role, owner, token and visitor."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

from hive_core.agents.registry import unknown_agent
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.tables import Services, people_endpoints
from hive_core.api.sockets import DashboardSocket, PeopleAuthority, subject_lookups
from hive_core.people.records import not_signed_in
from hive_core.people.signed_in import SignedIn
from hive_core.protocol import Done
from tests.unit.core.api.sockets.people_hive import asking_of

ORDER = ("viewer", "operator", "admin")
OLAF = {role: SignedIn("olaf", cast(Any, role), "session", number) for number, role in enumerate(ORDER)}
PEOPLE: Mapping[str, SignedIn | None] = {
    "visitor": None,
    **OLAF,
    "token": SignedIn("olaf", "operator", "token", 7),
    "token of an admin for some": SignedIn("olaf", "admin", "token", 8, frozenset({"own"})),
    "token for some": SignedIn("olaf", "operator", "token", 9, frozenset({"own", "others"})),
}
OWNERS = {"hm1nd": "", "own": "olaf", "others": "otto"}
AGENTS = ("own", "others", "nobodys", "hm1nd")
WITH_AGENT_IN_BODY = ("proposed_agent", "new_agent")


class FakeAgents:
    """All the agents there are."""

    def record(self, name: str) -> Any:
        if name not in AGENTS:
            raise unknown_agent(name)
        return SimpleNamespace(name=name)


class FakeRows:
    """Every row that is looked for is about one agent."""

    def __init__(self) -> None:
        self.agent = ""

    async def read(self, _: object) -> Any:
        return SimpleNamespace(agent=self.agent, by=self.agent, to=self.agent)


def stripped(endpoint: Endpoint) -> Endpoint:
    """The endpoint with its rule and without what it does."""

    async def handle(_: ApiCall) -> Done:
        return Done()

    assert endpoint.rule is not None
    body = endpoint.body if endpoint.rule.subject in WITH_AGENT_IN_BODY else None
    plain = replace(endpoint, handler=handle, answer=Done, query=None, body=body)
    return replace(plain, waits=False, load="light", until=None)


def expected(endpoint: Endpoint, person: SignedIn | None, agent: str) -> int:
    """The statement of the rule, in the words of the documentation: see docs/web.md."""
    assert endpoint.rule is not None
    role, subject = endpoint.rule.role, endpoint.rule.subject
    if role == "visitor":
        return 200
    if person is None:
        return 401
    if ORDER.index(person.role) < ORDER.index(role) or (subject == "hive" and person.agents is not None):
        return 403
    if subject in ("hive", "own", "listing"):
        return 200
    sees = person.role == "admin" or OWNERS.get(agent) in (None, "olaf")
    if not sees or (person.agents is not None and agent not in person.agents):
        return 409 if subject == "new_agent" else 404
    return 200


def body_of(endpoint: Endpoint, agent: str) -> object:
    subject = endpoint.rule.subject if endpoint.rule else ""
    if subject == "proposed_agent":
        return {"agent": agent, "commit": "c" * 40, "note": "x"}
    return {"name": agent} if subject == "new_agent" else None


async def test_every_endpoint_with_everybody(tmp_path: Path) -> None:
    """Each combination is answered as the table of rules says, and for what is another's as for what is not there."""
    table, rows = people_endpoints(cast(Services, MagicMock())), FakeRows()

    async def identify(credential: str) -> SignedIn:
        person = PEOPLE.get(credential)
        if person is None:
            raise not_signed_in()
        return person

    async def ignore(*_: object) -> None:
        """Refusals and looks are told elsewhere."""

    authority = PeopleAuthority(identify, OWNERS, subject_lookups(cast(Any, FakeAgents()), cast(Any, rows)), ignore)
    endpoints = [stripped(each) for each in table]
    socket = DashboardSocket(tmp_path / "d", "", endpoints, authority, ignore, lambda *_: None)
    await socket.open()
    wrong, asked = [], 0
    async with asking_of(tmp_path / "d") as ask:
        for endpoint, (name, person), rows.agent in itertools.product(endpoints, PEOPLE.items(), AGENTS):
            agent = rows.agent
            path = endpoint.path.replace("{name}", agent).replace("{id}", "1").replace("{number}", "1")
            path = path.replace("{repo}", "web").replace("{file}", "0")
            credential = None if person is None else name
            seen = await ask(credential, endpoint.method, path, body_of(endpoint, agent))
            asked += 1
            if seen.status != expected(endpoint, person, agent):
                wrong.append((name, agent, endpoint.method, endpoint.path, seen.status))
    await socket.close()
    assert wrong == []
    assert asked > 1_000
