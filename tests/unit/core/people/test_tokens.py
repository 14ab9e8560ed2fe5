"""API tokens, and the ends of sessions and tokens."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from hive_core.errors import HiveError
from hive_core.people import Role
from hive_core.people.store import Credential
from hive_core.people.tokens import MOST_TOKENS
from tests.unit.core.people.people_hive import DAY, HOST, PeopleHive


async def code(call: Awaitable[object]) -> str:
    """Return the code with which something is refused."""
    with pytest.raises(HiveError) as refusal:
        await call
    return refusal.value.code


def make(
    hive: PeopleHive, label: str = "ci", *, owner: str = "ada", role: Role | None = None, days: float | None = None
) -> Awaitable[tuple[str, Credential]]:
    return hive.people.credentials.make_token(owner, label, role=role, agents=["web"], days=days, actor=HOST)


async def test_a_token_stands_for_its_owner_until_its_end(hive: PeopleHive) -> None:
    """A token is the person with its role and agents, idle or not, over restarts, until its end."""
    await hive.add("ada", "admin")
    token, made = await make(hive, role="viewer")
    assert made.ends_at == hive.now + 90 * DAY
    for _ in range(2):
        found = await hive.people.identify(token)
        assert (found.name, found.role, found.by, found.agents) == ("ada", "viewer", "token", frozenset({"web"}))
        hive.now += 90 * DAY - 1 - (hive.now + 90 * DAY - made.ends_at)
        await hive.restart()
    hive.now = made.ends_at
    assert not await hive.is_signed_in(token)


async def test_a_token_has_no_more_rights_than_its_owner(hive: PeopleHive) -> None:
    """A higher role, a name that is taken and one token too many are refused."""
    await hive.add("ada", "operator")
    assert await code(make(hive, role="admin")) == "role_too_high"
    _, first = await make(hive)
    assert first.role == "operator"
    assert await code(make(hive)) == "name_taken"
    for number in range(MOST_TOKENS - 1):
        await make(hive, f"t{number}")
    assert await code(make(hive, "last")) == "too_many_tokens"
    await hive.people.credentials.revoke(first.id, "token", "ada", HOST)
    assert await make(hive, "last")


async def test_only_the_owner_ends_a_session_or_token(hive: PeopleHive) -> None:
    """Numbers of others, of another kind, and of what has ended are all unknown."""
    begun = await hive.add("ada")
    await hive.add("bob")
    token, made = await make(hive)
    credentials = hive.people.credentials
    assert await code(credentials.revoke(begun.credential.id, "session", "bob", HOST)) == "unknown_session"
    assert await code(credentials.revoke(made.id, "token", "bob", HOST)) == "unknown_token"
    assert await code(credentials.revoke(made.id, "session", None, HOST)) == "unknown_session"
    assert await hive.is_signed_in(token)
    await credentials.revoke(made.id, "token", None, HOST)
    assert not await hive.is_signed_in(token)
    assert await code(credentials.revoke(made.id, "token", None, HOST)) == "unknown_token"


async def test_revoke_all(hive: PeopleHive) -> None:
    """All sessions of a person end but the one to keep, and with `tokens` tokens and links; for all people likewise."""
    await hive.add("ada")
    own, other, bobs = await hive.sign_in(), await hive.sign_in(), await hive.add("bob")
    token, _ = await make(hive)
    link = await hive.people.administration.link_for("ada", HOST)
    credentials = hive.people.credentials
    ended = await credentials.revoke_all("ada", "person:ada", tokens=False, keep=own.credential.id)
    assert ended == (2, 0, 0)
    secrets = (own.secret, other.secret, bobs.secret, token)
    assert [await hive.is_signed_in(each) for each in secrets] == [True, False, True, True]
    assert await credentials.revoke_all(None, HOST, tokens=True, keep=None) == (2, 1, 1)
    assert [await hive.is_signed_in(each) for each in secrets] == [False] * 4
    assert await code(hive.people.signing_in.set_up(link.secret, None, "password", "")) == "bad_link"
    await hive.restart()
    assert [await hive.is_signed_in(each) for each in secrets] == [False] * 4
    assert set(hive.ended) >= {own.credential.id, bobs.credential.id}


async def test_the_last_use_of_a_token_is_shown(hive: PeopleHive) -> None:
    """A token that was never used says so, and a use is kept over a restart."""
    await hive.add()
    token, _ = await make(hive)
    assert hive.people.credentials.select("token", "ada")[0].used_at == 0
    await hive.people.identify(token)
    await hive.restart()
    assert hive.people.credentials.select("token", "ada")[0].used_at == hive.now
