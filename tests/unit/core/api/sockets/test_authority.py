"""Rights of people on `dashboard.sock`: credential, role, and who owns an agent."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.rules import PUBLIC, EndpointRule, Least
from hive_core.people.signed_in import SignedIn
from tests.unit.core.api.sockets.people_hive import OWNERS, PeopleHive, answering, people_hive

ROLES: Sequence[Least] = ("visitor", "viewer", "operator", "admin")
AGENT = "/v1/agents/{name}/x"


def one_for_each_role(_: PeopleHive) -> list[Endpoint]:
    return [answering(EndpointRule(role), f"/v1/{role}") for role in ROLES]


def about_agents(_: PeopleHive) -> list[Endpoint]:
    return [
        answering(EndpointRule("viewer", "agent"), AGENT),
        answering(EndpointRule("operator", "agent"), AGENT, "POST"),
    ]


async def test_a_role_opens_what_needs_it_or_less(tmp_path: Path) -> None:
    """A person may use the endpoints of their role and of lesser ones; a visitor only the public ones."""
    async with people_hive(tmp_path, one_for_each_role) as hive:
        for least, (role, credential) in itertools.product(
            ROLES,
            zip(ROLES, (None, "hs_vera", "hs_olaf", "hs_root"), strict=True),
        ):
            seen = await hive.ask(credential, "GET", f"/v1/{least}")
            allowed = ROLES.index(role) >= ROLES.index(least)
            expected = 200 if allowed else 401 if credential is None else 403
            assert seen.status == expected, (least, role)
            if expected == 403:
                assert seen.code == "not_permitted"
            if expected == 401:
                assert (seen.code, seen.headers["WWW-Authenticate"]) == ("not_signed_in", "Bearer")
    # Refusals of people are told in their name; nobody has come as the admin.
    assert {actor for actor, code in hive.refusals if code == "not_permitted"} == {"person:vera", "person:olaf"}


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "hs_olaf", "Basic hs_olaf", "Bearer hs_nobody", "Bearer hs_öaf", "Bearer " + "h" * 500],
)
async def test_another_header_signs_nobody_in(tmp_path: Path, header: str) -> None:
    """A header that is not exactly one known credential is refused, and says the same for unknown ones."""
    async with people_hive(tmp_path, one_for_each_role) as hive:
        seen = await hive.ask(None, "GET", "/v1/viewer", headers={"Authorization": header})
        public = await hive.ask(None, "GET", "/v1/visitor", headers={"Authorization": header})
    assert (seen.status, seen.code, public.status) == (401, "not_signed_in", 200)


async def test_two_credentials_are_none(tmp_path: Path) -> None:
    """A request with two credentials is refused: nobody knows which one its sender meant."""
    async with people_hive(tmp_path, one_for_each_role) as hive:
        assert hive.session is not None
        headers = [("Authorization", "Bearer hs_root"), ("Authorization", "Bearer hs_vera")]
        async with hive.session.get("http://hive/v1/viewer", headers=headers) as response:
            assert response.status == 401


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_agent_of_somebody_else_is_unknown(tmp_path: Path, method: str) -> None:
    """Another owner's agent, and the manager, answer byte for byte as a name that nobody has; admins see all."""
    async with people_hive(tmp_path, about_agents) as hive:
        for person, agent in itertools.product(("vera", "olaf", "otto", "root"), (*OWNERS, "zoe")):
            seen = await hive.ask(f"hs_{person}", method, AGENT.format(name=agent))
            mine = person == "root" or OWNERS.get(agent) in (None, person)
            if person == "vera" and method == "POST":
                assert (seen.status, seen.code) == (403, "not_permitted")
            elif mine:
                assert seen.status == 200, (person, agent)
            else:
                hive.agents.discard(agent)
                other = await hive.ask(f"hs_{person}", method, AGENT.format(name=agent))
                hive.agents.add(agent)
                assert (seen.status, seen.body) == (other.status, other.body), (person, agent)
                assert seen.status == 404


async def test_a_token_for_some_agents(tmp_path: Path) -> None:
    """A token that is for some agents sees no other, whatever the role, and may do nothing to the whole hive."""

    def make(hive: PeopleHive) -> list[Endpoint]:
        others = answering(EndpointRule("viewer"), "/v1/whole"), answering(EndpointRule("viewer", "own"), "/v1/own")
        return [*about_agents(hive), *others]

    async with people_hive(tmp_path, make) as hive:
        asked = {name: await hive.ask("ht_part", "GET", AGENT.format(name=name)) for name in hive.agents}
        whole, own = [await hive.ask("ht_part", "GET", path) for path in ("/v1/whole", "/v1/own")]
    assert {name for name, seen in asked.items() if seen.status == 200} == {"bob"}
    assert (whole.status, whole.code, own.status) == (403, "not_permitted", 200)


async def test_admins_are_told(tmp_path: Path) -> None:
    """An admin who looks at the agent of somebody else is recorded; an owner, and who looks at nobody's, is not."""
    async with people_hive(tmp_path, about_agents) as hive:
        for person, agent in itertools.product(("olaf", "root"), (*OWNERS, "zoe")):
            await hive.ask(f"hs_{person}", "GET", AGENT.format(name=agent))
    assert sorted(hive.looks) == [("person:root", agent) for agent in ("ada", "bob", "viv")]


async def test_a_scheme_in_other_case_is_the_same(tmp_path: Path) -> None:
    """The name of the scheme has no case (RFC 9110, 11.1)."""
    async with people_hive(tmp_path, one_for_each_role) as hive:
        headers = {"Authorization": "bEARER hs_olaf"}
        assert (await hive.ask(None, "GET", "/v1/operator", headers=headers)).status == 200


class Streaming:
    """An endpoint that streams until its caller has no right to it any more."""

    def __init__(self) -> None:
        self.ended = 0

    def endpoints(self, _: PeopleHive) -> list[Endpoint]:
        async def flow(call: ApiCall) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(call.raw)
            await response.write(b"begun\n")
            try:
                await asyncio.Event().wait()
            finally:
                self.ended += 1
            return response

        rule = EndpointRule("viewer", "agent")
        stream = Endpoint("GET", AGENT, "Stream", flow, "text/plain", waits=True, load="follows", rule=rule)
        return [stream, answering(PUBLIC)]


async def read_to_end(response: aiohttp.ClientResponse) -> bool:
    """Return True when the server hangs up in the middle of an answer."""
    try:
        await response.read()
    except aiohttp.ClientError:
        return True
    return False


async def test_streams_end_with_the_credential(tmp_path: Path) -> None:
    """Streams in the name of a session end when that session does, and nothing else does."""
    streaming = Streaming()
    async with people_hive(tmp_path, streaming.endpoints) as hive:
        assert hive.session is not None and hive.authority is not None
        url = "http://hive" + AGENT.format(name="ada")
        open_, other = [
            await hive.session.get(url, headers={"Authorization": f"Bearer {credential}"})
            for credential in ("hs_olaf", "ht_olaf")
        ]
        for response in (open_, other):
            assert await response.content.readline() == b"begun\n"
        hive.authority.end(2)
        assert await asyncio.wait_for(read_to_end(open_), 5)
        assert streaming.ended == 1
        hive.authority.end_all()
        assert await asyncio.wait_for(read_to_end(other), 5)


async def test_no_stream_begins_after_the_end(tmp_path: Path) -> None:
    """A session that ends while its request is read streams nothing."""
    streaming = Streaming()
    async with people_hive(tmp_path, streaming.endpoints) as hive:
        asked = 0

        async def ends_after_the_first(_: str) -> SignedIn:
            nonlocal asked
            asked += 1
            if asked == 2:
                hive.people.clear()
            return await PeopleHive.identify(hive, "hs_olaf")

        assert hive.authority is not None
        hive.authority._identify = ends_after_the_first
        seen = await hive.ask("hs_olaf", "GET", AGENT.format(name="ada"))
    assert (seen.status, seen.code, streaming.ended) == (401, "not_signed_in", 0)
