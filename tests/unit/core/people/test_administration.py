"""Adding, changing and removing accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from hive_core.agents import store as agent_store
from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError
from hive_core.people.sign_in import BegunSession
from hive_core.protocol import AgentConfig
from tests.unit.core.people.people_hive import HOST, PASSWORD, PeopleHive


async def code(call: Awaitable[object]) -> str:
    """Return the code with which something is refused."""
    with pytest.raises(HiveError) as refusal:
        await call
    return refusal.value.code


async def make_agent(hive: PeopleHive, name: str) -> None:
    """Store an agent."""
    record = AgentRecord(name, "agent", "stopped", AgentConfig(), "prompt", 1, web_port=0)
    await hive.database.write(lambda db: agent_store.insert(db, record, lambda _: True))


async def test_no_account_has_the_name_of_an_agent(hive: PeopleHive) -> None:
    """The name of an agent is refused when the account is made, and also when a link is used."""
    free = await hive.people.administration.link_for_admin(None, HOST)
    await make_agent(hive, "bob")
    assert await code(hive.people.administration.add("bob", "viewer", HOST)) == "name_taken"
    assert await code(hive.people.administration.link_for_admin("bob", HOST)) == "name_taken"
    assert await code(hive.people.signing_in.set_up(free.secret, "bob", PASSWORD, "")) == "name_taken"
    assert await hive.people.signing_in.set_up(free.secret, "ada", PASSWORD, "")
    assert [each.account.name for each in await hive.people.administration.summaries()] == ["ada"]


async def test_a_role_is_in_force_at_once(hive: PeopleHive) -> None:
    """Sessions and tokens have the new role with the next request, and what runs with them hears of it."""
    begun = await hive.add("ada", "admin")
    token, made = await hive.people.credentials.make_token(
        "ada", "ci", role="operator", agents=None, days=None, actor=HOST
    )
    for role, of_token in (("viewer", "viewer"), ("operator", "operator"), ("admin", "operator")):
        hive.ended.clear()
        await hive.people.administration.set_role("ada", role, HOST)  # type: ignore[arg-type]
        assert (await hive.people.identify(begun.secret)).role == role
        assert (await hive.people.identify(token)).role == of_token
        assert sorted(hive.ended) == [begun.credential.id, made.id]
    await hive.restart()
    assert (await hive.people.identify(begun.secret)).role == "admin"
    rows = await hive.audited("set_role")
    assert rows[0] == (HOST, "ada", "ok", {"before": "admin", "role": "viewer"})


async def test_a_link_gives_the_role_of_its_use(hive: PeopleHive) -> None:
    """A role that changes before the link is used is the one that the account has then."""
    made = await hive.people.administration.add("ada", "admin", HOST)
    await hive.people.administration.set_role("ada", "viewer", HOST)
    assert (await hive.people.signing_in.set_up(made.secret, None, PASSWORD, "")).account.role == "viewer"


async def test_a_removed_account_is_gone(hive: PeopleHive) -> None:
    """With an account its sessions and tokens end, and one of the same name has nothing of them."""
    begun = await hive.add()
    token, _ = await hive.people.credentials.make_token("ada", "ci", role=None, agents=None, days=None, actor=HOST)
    await hive.people.administration.remove("ada", HOST)
    assert [await hive.is_signed_in(each) for each in (begun.secret, token)] == [False, False]
    assert await code(hive.sign_in()) == "wrong_password"
    assert await code(hive.people.administration.remove("ada", HOST)) == "unknown_person"
    await hive.add("ada", "viewer", "another one")
    await hive.restart()
    assert [await hive.is_signed_in(each) for each in (begun.secret, token)] == [False, False]
    assert "sha256" not in await hive.stored_text()


async def test_what_belongs_to_a_person_hears_of_a_removal(hive: PeopleHive) -> None:
    """Other parts change what they have of a person with the removal of the account, or it does not happen."""
    await hive.add()
    administration = hive.people.administration
    removed: list[str] = []
    administration.removed.append(removed.append)

    def refuse(_: object, name: str) -> None:
        raise HiveError("not_now", name)

    administration.removing.append(refuse)
    assert await code(administration.remove("ada", HOST)) == "not_now"
    assert (removed, hive.people.is_person("ada")) == ([], True)
    administration.removing[:] = [
        lambda db, name: db.execute("INSERT INTO set_up_links VALUES (?, NULL, 'viewer', '', 0)", (name,))
    ]
    await administration.remove("ada", HOST)
    assert removed == ["ada"]
    assert "'ada', None" in await hive.stored_text()


async def test_nothing_begins_for_an_account_that_goes(hive: PeopleHive) -> None:
    """A sign-in at the moment of a removal, or of a reset, leaves no session behind."""
    for change in ("remove", "reset"):
        await hive.add()
        link = await hive.people.administration.link_for("ada", HOST)

        async def end(change: str = change, secret: str = link.secret) -> None:
            if change == "remove":
                await hive.people.administration.remove("ada", HOST)
            else:
                await hive.people.signing_in.set_up(secret, None, "another one", "")

        attempts = [hive.sign_in(address=f"192.0.2.{number}") for number in range(8)]
        results = await asyncio.gather(*attempts, end(), return_exceptions=True)
        begun = [each.secret for each in results if isinstance(each, BegunSession)]
        assert [await hive.is_signed_in(secret) for secret in begun] == [False] * len(begun)
        await hive.restart()
        assert [await hive.is_signed_in(secret) for secret in begun] == [False] * len(begun)
        if change == "remove":
            assert hive.people.find("ada") is None


async def test_administration_is_audited_with_the_operator(hive: PeopleHive) -> None:
    """The audit table says who made, changed and removed accounts and links."""
    await hive.add("ada", "viewer")
    await hive.people.administration.link_for("ada", HOST)
    await hive.people.administration.remove("ada", HOST)
    assert [row[:3] for row in await hive.audited("add_person")] == [(HOST, "ada", "ok")]
    assert [row[:3] for row in await hive.audited("make_set_up_link")] == [(HOST, "ada", "ok")] * 2
    assert [row[:3] for row in await hive.audited("remove_person")] == [(HOST, "ada", "ok")]
