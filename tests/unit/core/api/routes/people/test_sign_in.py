"""The endpoints to sign in: their answers, their refusals, and what they leave in the audit table."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from tests.unit.core.api.call_endpoint import Reply
from tests.unit.core.api.routes.people.people_api import PeopleApi
from tests.unit.core.people.people_hive import ADDRESS, PASSWORD


async def sign_in(api: PeopleApi, password: str = PASSWORD, address: str = ADDRESS, secret: str = "") -> Reply:
    return await api.ask("POST", "sign-in", {"name": "ada", "password": password}, address=address, secret=secret)


async def test_the_life_of_a_session(api: PeopleApi) -> None:
    """A session begins, says who it is, is rotated, and ends at once when its person signs out."""
    await api.hive.add("ada", "viewer")
    first = (await sign_in(api)).json["session"]
    second = (await sign_in(api, secret=first)).json["session"]
    assert (await api.ask("GET", "me", secret=first)).code == "not_signed_in"
    me = await api.ask("GET", "me", secret=second)
    assert {key: me.json[key] for key in ("name", "role", "by")} == {"name": "ada", "role": "viewer", "by": "session"}
    assert (await api.ask("POST", "sign-out", {}, secret=second)).status == 200
    for path in ("me", "sessions", "tokens", "people"):
        assert (await api.ask("GET", path, secret=second)).status == 401


async def test_a_wrong_password_says_how_long_to_wait(api: PeopleApi) -> None:
    """After five wrong passwords the answer is 429 with Retry-After, before any password is looked at."""
    await api.hive.add()
    replies = [await sign_in(api, "wrong") for _ in range(6)]
    assert [reply.code for reply in replies] == ["wrong_password"] * 5 + ["too_many_sign_ins"]
    assert (replies[-1].status, api.headers["Retry-After"]) == (429, "1")
    assert (await sign_in(api)).status == 429, "also for the right one"
    api.hive.now += 1_000
    assert (await sign_in(api)).status == 200


async def test_a_thousand_wrong_passwords(api: PeopleApi) -> None:
    """From a thousand addresses at once, 30 are looked at and all others refused; the person signs in meanwhile."""
    await api.hive.add()
    assert (await sign_in(api)).status == 200
    began = time.process_time()
    flood = asyncio.gather(*(sign_in(api, "wrong", f"10.0.{n // 250}.{n % 250}") for n in range(1_000)))
    await asyncio.sleep(0)
    assert (await sign_in(api)).status == 200
    statuses = Counter(reply.status for reply in await flood)
    assert set(statuses) == {401, 429}
    assert statuses[401] <= 30
    assert time.process_time() - began < 20
    rows = await api.hive.audited("sign_in") + await api.hive.audited("request")
    assert len(rows) < 40


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("sign-in", {"name": "ada", "password": "x" * 1_025}),
        ("sign-in", {"name": "a" * 101, "password": PASSWORD}),
        ("sign-in", {"name": ["ada"], "password": PASSWORD}),
        ("sign-in", {"name": "ada"}),
        ("set-up", {"token": "hl_x", "name": "ada", "password": "short-1"}),
        ("set-up", {"token": "hl_" + "x" * 1_000, "name": "ada", "password": PASSWORD}),
        ("set-up", {"token": "hl_x", "name": "hive", "password": PASSWORD}),
    ],
)
async def test_refused_forms_say_nothing_of_secrets(api: PeopleApi, path: str, body: dict[str, object]) -> None:
    """A request of a wrong form is refused, and neither the answer nor the audit table has what was typed."""
    reply = await api.ask("POST", path, body)
    assert reply.status == 400
    stored = await api.hive.stored_text()
    for value in (body.get("password"), body.get("token")):
        assert value is None or (str(value) not in str(reply.json) and str(value) not in stored)


async def test_the_operator_on_the_host_is_an_admin(api: PeopleApi) -> None:
    """A request on the host without a session is the operator's."""
    assert (await api.ask("GET", "me")).json == {
        "name": "operator", "role": "admin", "by": "host", "credential": None, "agents": None, "ends_at": None,
    }  # fmt: skip
    assert (await api.ask("POST", "sign-out", {})).code == "not_signed_in"
    assert (await api.ask("GET", "me", secret="hs_wrong")).code == "not_signed_in"


async def test_a_bad_link_is_audited_once(api: PeopleApi) -> None:
    """A refused link is in the audit table with the address, and without what was sent."""
    body = {"token": "hl_" + "A" * 43, "name": "ada", "password": PASSWORD}
    assert (await api.ask("POST", "set-up", body, address=ADDRESS)).code == "bad_link"
    assert await api.hive.audited("set_up") == [("visitor", "", "bad_link", {"address": ADDRESS})]
    assert await api.hive.audited("request") == []
