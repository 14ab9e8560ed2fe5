"""Signing in by passwords and by set-up links, and the ends of sessions."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable

import pytest
from argon2 import PasswordHasher, extract_parameters

from hive_core.errors import HiveError
from hive_core.people.records import MOST_SESSIONS
from hive_core.protocol.people.passwords import password_bytes
from tests.unit.core.people.people_hive import ADDRESS, DAY, HOST, HOUR, MINUTE, PASSWORD, PeopleHive


async def code(call: Awaitable[object]) -> str:
    """Return the code with which something is refused."""
    with pytest.raises(HiveError) as refusal:
        await call
    return refusal.value.code


async def test_a_password_begins_a_session(hive: PeopleHive) -> None:
    """The right password gives a session of 256 random bits that stands for the person and the role."""
    await hive.add("ada", "viewer")
    begun = await hive.sign_in()
    found = await hive.people.identify(begun.secret)
    assert (found.name, found.role, found.by, found.credential) == ("ada", "viewer", "session", begun.credential.id)
    assert begun.secret.startswith("hs_")
    assert len(begun.secret) >= 3 + 43, "32 random bytes"
    assert await code(hive.sign_in(password="correct horsf")) == "wrong_password"


@pytest.mark.parametrize(
    "name", ["eve", "", " ", "operator", "ADA!", "ada\0", "\u0430da", "a" * 100, "x" * 9_999, "\ud800"]
)
async def test_names_that_nobody_has_are_refused_as_wrong_passwords(
    hive: PeopleHive, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown name, or a text that is none, gets the answer for a wrong password, after as much work."""
    await hive.add()
    with pytest.raises(HiveError) as wrong:
        await hive.sign_in(password="wrong password")
    compared: list[str] = []
    verify = PasswordHasher.verify

    def noted(self: PasswordHasher, stored: str, content: bytes) -> bool:
        compared.append(stored)
        return verify(self, stored, content)

    monkeypatch.setattr(PasswordHasher, "verify", noted)
    with pytest.raises(HiveError) as unknown:
        await hive.sign_in(name, "wrong password", "192.0.2.9")
    assert (unknown.value.code, unknown.value.message, unknown.value.hint, unknown.value.status) == (
        wrong.value.code, wrong.value.message, wrong.value.hint, wrong.value.status,
    )  # fmt: skip
    assert len(compared) == 1
    assert extract_parameters(compared[0]) == extract_parameters(hive.hasher.hash("x")), "the same work"


async def test_a_name_may_be_typed_carelessly(hive: PeopleHive) -> None:
    """Capitals and blanks around a name make no difference."""
    await hive.add()
    assert (await hive.sign_in(" Ada ")).account.name == "ada"


async def test_passwords_are_compared_in_one_spelling(hive: PeopleHive) -> None:
    """A letter with an accent is the same whether a keyboard sends one character or two, and others differ."""
    await hive.add(password="p\u00e4ssw\u00f6rter \U0001f41d")
    assert await hive.sign_in(password="pa\u0308sswo\u0308rter \U0001f41d")
    assert await code(hive.sign_in(password="passworter \U0001f41d")) == "wrong_password"
    assert await code(hive.sign_in(password="\ud800")) == "wrong_password"
    assert password_bytes("\ud800") is None


async def test_secrets_are_not_stored(hive: PeopleHive) -> None:
    """The database has neither a password nor the secret of a session, a token or a link."""
    made = await hive.people.administration.add("ada", "admin", HOST)
    begun = await hive.people.signing_in.set_up(made.secret, None, PASSWORD, ADDRESS)
    token, _ = await hive.people.credentials.make_token(
        "ada", "ci", role=None, agents=None, days=None, actor="person:ada"
    )
    other = await hive.people.administration.link_for("ada", HOST)
    stored = await hive.stored_text()
    assert not [secret for secret in (PASSWORD, made.secret, other.secret, begun.secret, token) if secret in stored]
    assert "argon2id" in stored


async def test_signing_in_rotates_the_session(hive: PeopleHive) -> None:
    """A session that comes with a sign-in of its person ends by it; one of somebody else stays."""
    await hive.add("ada")
    await hive.add("bob")
    first, bobs = await hive.sign_in(), await hive.sign_in("bob")
    second = await hive.sign_in(replaced=first.secret)
    assert [await hive.is_signed_in(each.secret) for each in (first, second)] == [False, True]
    assert first.credential.id in hive.ended
    await hive.sign_in(replaced=bobs.secret)
    assert await hive.is_signed_in(bobs.secret)


async def test_sessions_end_idle_and_in_any_case(hive: PeopleHive) -> None:
    """A session ends 12 hours after its last use, and 7 days after its beginning however it is used."""
    await hive.add()
    idle, used = await hive.sign_in(), await hive.sign_in()
    ends = used.credential.ends_at
    assert ends == hive.now + 7 * DAY
    hive.now += 12 * HOUR - 1
    assert await hive.is_signed_in(used.secret)
    hive.now += 1
    assert not await hive.is_signed_in(idle.secret)
    while hive.now + 11 * HOUR < ends:
        hive.now += 11 * HOUR
        assert await hive.is_signed_in(used.secret)
    hive.now = ends - 1
    assert await hive.is_signed_in(used.secret)
    hive.now = ends
    assert not await hive.is_signed_in(used.secret)


async def test_the_end_of_a_session_ends_its_requests(hive: PeopleHive) -> None:
    """A request that runs with a session hears of its end when its time is up, and the database forgets it."""
    begun = await hive.add()
    running = asyncio.create_task(hive.people.run())
    heard = asyncio.Event()
    hive.people.ended.append(lambda _: heard.set())
    try:
        hive.now += 12 * HOUR
        await hive.people.administration.add("bob", "viewer", HOST)
        other = await hive.people.administration.link_for("bob", HOST)
        await hive.people.signing_in.set_up(other.secret, None, PASSWORD, "")
        await asyncio.wait_for(heard.wait(), 10)
        assert begun.credential.id in hive.ended
    finally:
        running.cancel()


async def test_a_session_outlives_the_daemon(hive: PeopleHive) -> None:
    """Sessions and their last uses are kept over a restart, and so are their ends."""
    begun = await hive.add()
    hive.now += 11 * HOUR
    assert await hive.is_signed_in(begun.secret)
    await hive.restart()
    hive.now += 11 * HOUR
    assert await hive.is_signed_in(begun.secret)
    await hive.restart()
    hive.now += 12 * HOUR
    await hive.restart()
    assert not await hive.is_signed_in(begun.secret)


async def test_a_clock_that_was_set_back_lengthens_nothing(hive: PeopleHive) -> None:
    """A session lasts no longer than a new one after the clock was set back while no daemon ran; a link is void."""
    begun = await hive.add()
    link = await hive.people.administration.link_for("ada", HOST)
    hive.now -= 100 * DAY
    await hive.restart()
    assert await code(hive.people.signing_in.set_up(link.secret, None, PASSWORD, "")) == "bad_link"
    hive.now += 12 * HOUR
    assert not await hive.is_signed_in(begun.secret)


async def test_uses_are_stored_rarely(hive: PeopleHive) -> None:
    """A request with a session writes nothing to the database."""
    begun = await hive.add()
    commits: list[None] = []
    hive.database.committed.append(lambda: commits.append(None))
    hive.now += 5
    for _ in range(1_000):
        await hive.people.identify(begun.secret)
    assert not commits


@pytest.mark.parametrize("secret", ["", "hs_", "hs_" + "A" * 43, "ht_x", "\0", "\ud800", "a" * 100_000])
async def test_texts_that_are_no_secret(hive: PeopleHive, secret: str) -> None:
    """Anything that is no session is refused with 401."""
    await hive.add()
    assert not await hive.is_signed_in(secret)


async def test_a_person_has_a_bounded_number_of_sessions(hive: PeopleHive) -> None:
    """One session too many ends the one that was used longest ago."""
    oldest = await hive.add()
    kept = await hive.sign_in()
    for _ in range(MOST_SESSIONS - 2):
        hive.now += 1
        await hive.sign_in()
    assert await hive.is_signed_in(oldest.secret)
    hive.now += 1
    assert await hive.is_signed_in(oldest.secret), "it is used, so that another one is older"
    await hive.sign_in()
    assert [await hive.is_signed_in(each.secret) for each in (oldest, kept)] == [True, False]


# --- set-up links -----------------------------------------------------------------------------------------------


async def test_a_set_up_link_is_good_once(hive: PeopleHive) -> None:
    """Of many uses at a time one makes the account and signs in; all others are refused."""
    made = await hive.people.administration.link_for_admin(None, HOST)
    uses = [hive.people.signing_in.set_up(made.secret, f"ada{number}", PASSWORD, "") for number in range(4)]
    results = await asyncio.gather(*uses, return_exceptions=True)
    begun = [each for each in results if not isinstance(each, BaseException)]
    assert len(begun) == 1
    assert begun[0].account.role == "admin"
    assert all(getattr(each, "code", "") == "bad_link" for each in results if isinstance(each, BaseException))
    assert [each.account.name for each in await hive.people.administration.summaries()] == [begun[0].account.name]
    assert await code(hive.people.signing_in.set_up(made.secret, "eve", PASSWORD, "")) == "bad_link"


async def test_a_set_up_link_is_good_for_15_minutes(hive: PeopleHive) -> None:
    """A link is refused when its time is up, or when it was replaced or forged."""
    old = await hive.people.administration.add("ada", "admin", HOST)
    hive.now += 15 * MINUTE
    assert await code(hive.people.signing_in.set_up(old.secret, None, PASSWORD, "")) == "bad_link"
    replaced, made = [await hive.people.administration.link_for("ada", HOST) for _ in range(2)]
    assert await code(hive.people.signing_in.set_up(replaced.secret, None, PASSWORD, "")) == "bad_link"
    assert await code(hive.people.signing_in.set_up("hl_" + "A" * 43, None, PASSWORD, "")) == "bad_link"
    hive.now += 15 * MINUTE - 1
    assert (await hive.people.signing_in.set_up(made.secret, None, PASSWORD, "")).account.name == "ada"


async def test_a_link_is_for_its_person(hive: PeopleHive) -> None:
    """A link sets the password of the account it was made for, and makes no account that there is already."""
    await hive.add("bob")
    made = await hive.people.administration.add("ada", "viewer", HOST)
    assert await code(hive.people.signing_in.set_up(made.secret, "bob", PASSWORD, "")) == "invalid_request"
    assert (await hive.people.signing_in.set_up(made.secret, "ada", PASSWORD, "")).account.role == "viewer"
    free = await hive.people.administration.link_for_admin(None, HOST)
    assert await code(hive.people.signing_in.set_up(free.secret, None, PASSWORD, "")) == "invalid_request"
    assert await code(hive.people.signing_in.set_up(free.secret, "bob", "another one", "")) == "name_taken"
    assert (await hive.people.signing_in.set_up(free.secret, "cy", PASSWORD, "")).account.role == "admin"


async def test_a_reset_ends_sessions(hive: PeopleHive) -> None:
    """A used link replaces the password and ends the person's sessions, not those of others; an unused one does not."""
    await hive.add("bob")
    await hive.add("ada")
    session, bobs = await hive.sign_in(), await hive.sign_in("bob")
    made = await hive.people.administration.link_for("ada", HOST)
    assert await hive.is_signed_in(session.secret)
    begun = await hive.people.signing_in.set_up(made.secret, None, "another one", "")
    assert [await hive.is_signed_in(each.secret) for each in (session, bobs, begun)] == [False, True, True]
    assert await code(hive.sign_in()) == "wrong_password"
    assert await hive.sign_in(password="another one")


async def test_a_link_ends_with_its_account(hive: PeopleHive) -> None:
    """The link of a removed account makes no account again, also not for one of the same name."""
    made = await hive.people.administration.add("ada", "admin", HOST)
    await hive.people.administration.remove("ada", HOST)
    assert await code(hive.people.signing_in.set_up(made.secret, None, PASSWORD, "")) == "bad_link"
    await hive.people.administration.add("ada", "viewer", HOST)
    assert await code(hive.people.signing_in.set_up(made.secret, None, PASSWORD, "")) == "bad_link"


# --- passwords --------------------------------------------------------------------------------------------------


async def test_a_change_of_the_password_ends_all_other_sessions(hive: PeopleHive) -> None:
    """A new password needs the old one, ends every session and gives another one in place of the own."""
    await hive.add()
    own, other = await hive.sign_in(), await hive.sign_in()
    person = await hive.people.identify(own.secret)
    assert await code(hive.people.signing_in.change_password(person, "wrong", "new password", "")) == "wrong_password"
    begun = await hive.people.signing_in.change_password(person, PASSWORD, "new password", "")
    assert [await hive.is_signed_in(each.secret) for each in (own, other, begun)] == [False, False, True]
    assert {own.credential.id, other.credential.id} <= set(hive.ended)
    again = hive.people.signing_in.change_password(person, "new password", "a third one", "")
    assert await code(again) == "not_signed_in", "the session has ended meanwhile"
    assert await code(hive.sign_in()) == "wrong_password"


async def test_a_hash_is_made_anew_with_better_parameters(hive: PeopleHive) -> None:
    """A sign-in replaces a hash of weaker parameters."""
    await hive.add()
    hive.hasher = type(hive.hasher)(time_cost=2, memory_cost=8, parallelism=1)
    await hive.restart()
    assert await hive.sign_in()
    assert "t=2" in str((await hive.database.read(_hashes))["ada"])
    assert await hive.sign_in()


def _hashes(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT name, password FROM people").fetchall())


# --- the audit table --------------------------------------------------------------------------------------------


async def test_sign_ins_are_audited_with_the_person(hive: PeopleHive) -> None:
    """The audit table says who signed in from where, and which attempts on an account were refused."""
    await hive.add()
    begun = await hive.sign_in()
    assert await code(hive.sign_in(password="wrong")) == "wrong_password"
    assert await code(hive.sign_in("my-password", "ada")) == "wrong_password"
    assert await hive.audited("sign_in") == [
        ("person:ada", f"session {begun.credential.id}", "ok", {"address": ADDRESS, "id": begun.credential.id}),
        ("visitor", "ada", "wrong_password", {"address": ADDRESS}),
        ("visitor", "", "wrong_password", {"address": ADDRESS}),
    ]
    assert [row[0] for row in await hive.audited("set_up")] == ["person:ada"]
    assert "my-password" not in await hive.stored_text()


async def test_refusals_do_not_fill_the_audit_table(hive: PeopleHive) -> None:
    """A flood of wrong passwords adds 30 rows a minute, and one that counts the others."""
    for number in range(100):
        assert await code(hive.sign_in(f"eve{number}", "wrong", f"192.0.2.{number}")) == "wrong_password"
        hive.now += MINUTE if number == 99 else 0
    await hive.people.close()
    rows = await hive.audited("sign_in")
    assert len(rows) == 31
    assert rows[-1][2:] == ("left_out", {"left_out": 70})
