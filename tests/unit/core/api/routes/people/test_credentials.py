"""The endpoints of sessions, API tokens and accounts: whose they show and end for whom."""

from __future__ import annotations

import pytest

from tests.unit.core.api.routes.people.people_api import PeopleApi


async def people(api: PeopleApi) -> dict[str, str]:
    """Make ada, who is an admin, the operator bob and the viewer cy; return secrets by name, tokens with a `+`."""
    secrets = {}
    for name, role in (("ada", "admin"), ("bob", "operator"), ("cy", "viewer")):
        secrets[name] = (await api.hive.add(name, role)).secret  # type: ignore[arg-type]
        reply = await api.ask("POST", "tokens", {"name": "ci"}, secret=secrets[name])
        assert reply.status == 200, reply
        secrets[f"{name}+"] = reply.json["token"]
    reply = await api.ask("POST", "tokens", {"name": "scoped", "agents": ["web"]}, secret=secrets["ada"])
    secrets["ada-"] = reply.json["token"]
    return secrets


@pytest.mark.parametrize(
    ("who", "path", "seen"),
    [
        ("bob", "sessions", {"bob"}),
        ("bob", "sessions?person=me", {"bob"}),
        ("bob", "sessions?person=bob", {"bob"}),
        ("bob", "sessions?person=ada", None),
        ("bob", "sessions?person=nobody2", None),
        ("bob", "sessions?person=*", None),
        ("cy+", "sessions", {"cy"}),
        ("cy+", "tokens", {"cy"}),
        ("cy", "tokens?person=*", None),
        ("ada", "sessions", {"ada"}),
        ("ada", "sessions?person=bob", {"bob"}),
        ("ada", "sessions?person=nobody2", set()),
        ("ada", "sessions?person=*", {"ada", "bob", "cy"}),
        ("ada+", "tokens?person=*", {"ada", "bob", "cy"}),
        ("ada-", "sessions", {"ada"}),
        ("ada-", "sessions?person=*", None),
        ("", "sessions", {"ada", "bob", "cy"}),
        ("", "tokens?person=bob", {"bob"}),
    ],
)
async def test_lists(api: PeopleApi, who: str, path: str, seen: set[str] | None) -> None:
    """One sees what is one's own, an admin and the operator everybody's; for others it is the same whom one names."""
    secrets = await people(api)
    reply = await api.ask("GET", path, secret=secrets.get(who, ""))
    if seen is None:
        assert (reply.status, reply.code) == (403, "not_permitted")
        return
    rows = next(iter(reply.json.values()))
    assert {each["person"] for each in rows} == seen
    assert not [secret for secret in secrets.values() if secret in str(reply.json)]
    assert not {"digest", "session", "token", "password"} & {key for row in rows for key in row}


@pytest.mark.parametrize(
    ("who", "kind", "whose", "code"),
    [
        ("bob", "sessions", "bob", ""),
        ("bob", "tokens", "bob", ""),
        ("bob", "sessions", "ada", "unknown_session"),
        ("bob", "tokens", "cy", "unknown_token"),
        ("ada", "sessions", "bob", ""),
        ("", "tokens", "bob", ""),
        ("bob+", "sessions", "bob", "session_needed"),
        ("ada+", "tokens", "ada", "session_needed"),
    ],
)
async def test_revocation(api: PeopleApi, who: str, kind: str, whose: str, code: str) -> None:
    """One ends what is one's own, an admin what is anybody's; a number of somebody else's is as unknown as none."""
    secrets = await people(api)
    secret = secrets[whose if kind == "sessions" else f"{whose}+"]
    number = (await api.hive.people.identify(secret)).credential
    replies = [
        await api.ask("POST", f"{kind}/{each}/revoke", {}, secret=secrets.get(who, "")) for each in (number, 9_999)
    ]
    assert await api.hive.is_signed_in(secret) is bool(code)
    assert (replies[0].code if code else replies[0].status) == (code or 200)
    if code.startswith("unknown"):
        assert replies[0] == replies[1]


async def test_revoke_all(api: PeopleApi) -> None:
    """One signs oneself out everywhere else; an admin anybody; nobody else somebody else."""
    secrets = await people(api)
    other = (await api.hive.sign_in("bob")).secret
    body = {"person": "me", "keep_current": True}
    reply = await api.ask("POST", "sessions/revoke-all", body, secret=secrets["bob"])
    assert reply.json == {"sessions": 1, "tokens": 0, "links": 0}
    alive = [await api.hive.is_signed_in(each) for each in (secrets["bob"], other, secrets["bob+"])]
    assert alive == [True, False, True]
    for whom in ("ada", "*", "nobody2"):
        reply = await api.ask("POST", "sessions/revoke-all", {"person": whom}, secret=secrets["bob"])
        assert reply.code == "not_permitted"
    reply = await api.ask("POST", "sessions/revoke-all", {"person": "*", "tokens": True}, secret=secrets["ada"])
    assert reply.json == {"sessions": 3, "tokens": 4, "links": 0}
    assert not [name for name, secret in secrets.items() if await api.hive.is_signed_in(secret)]
    rows = await api.hive.audited("revoke_all")
    assert [row[:3] for row in rows] == [("person:bob", "bob", "ok"), ("person:ada", "*", "ok")]


async def test_tokens_are_made_by_their_owners(api: PeopleApi) -> None:
    """A person makes tokens for themselves, with a session; the operator on the host for anybody."""
    secrets = await people(api)
    reply = await api.ask("POST", "tokens", {"name": "x", "person": "ada"}, secret=secrets["bob"])
    assert reply.code == "not_permitted"
    assert (await api.ask("POST", "tokens", {"name": "x"}, secret=secrets["bob+"])).code == "session_needed"
    assert (
        await api.ask("POST", "tokens", {"name": "x", "role": "admin"}, secret=secrets["bob"])
    ).code == "role_too_high"
    assert (await api.ask("POST", "tokens", {"name": "x"})).status == 400
    reply = await api.ask("POST", "tokens", {"name": "x", "person": "bob", "days": 1.0})
    assert (await api.hive.people.identify(reply.json["token"])).name == "bob"
    assert (await api.hive.audited("make_token"))[-1][0] == "operator:root"


async def test_accounts_are_listed_for_admins(api: PeopleApi) -> None:
    """Admins and the operator see who has an account; others do not, and nobody sees a hash."""
    secrets = await people(api)
    for who, status in (("", 200), ("ada", 200), ("ada+", 200), ("ada-", 403), ("bob", 403), ("cy", 403)):
        reply = await api.ask("GET", "people", secret=secrets.get(who, ""))
        assert reply.status == status
        assert "argon2" not in str(reply.json)
        if status == 200:
            found = {each["name"]: (each["role"], each["ready"], each["sessions"]) for each in reply.json["people"]}
            assert found == {"ada": ("admin", True, 1), "bob": ("operator", True, 1), "cy": ("viewer", True, 1)}
