"""`operator` against the endpoints of the daemon: links, accounts, sessions and tokens."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click import unstyle
from click.testing import CliRunner, Result

from hive_core.api.routes.people.accounts import account_changes, account_views
from hive_core.api.routes.people.credentials import session_endpoints, token_endpoints
from hive_core.cli import main
from hive_core.infra.database.database import milliseconds
from tests.helpers.memory import MEMORY
from tests.unit.core.api.call_endpoint import asking, caller
from tests.unit.core.people.people_hive import PASSWORD, PeopleHive, people_hive

ORIGIN = "https://hive.example"


@dataclass(frozen=True)
class Host:
    """`hive-c0re operator` for a hive."""

    hive: PeopleHive
    socket: Path

    async def run(self, *arguments: str) -> Result:
        """Run `operator` with arguments."""
        line = ["--socket", str(self.socket), "operator", *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, line, prog_name="hive-c0re")

    async def out(self, *arguments: str) -> str:
        """Run the command, which must succeed, and return its output without colours."""
        result = await self.run(*arguments)
        assert result.exit_code == 0, result.output
        return unstyle(result.stdout)

    async def follow(self, url: str, name: str | None = None) -> str:
        """Use a link, and return the secret of the session."""
        found = re.fullmatch(rf"{ORIGIN}/setup#(hl_[\w-]{{43}})\n?", url)
        assert found is not None, url
        return (await self.hive.people.signing_in.set_up(found[1], name, PASSWORD, "192.0.2.1")).secret


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A hive without accounts, whose clock is right."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        path = Path(directory)
        async with people_hive(path) as hive:
            hive.now = milliseconds()
            endpoints = [
                *account_views(hive.people),
                *account_changes(hive.people, ORIGIN),
                *session_endpoints(hive.people),
                *token_endpoints(hive.people),
            ]
            async with asking(endpoints, caller("operator", "operator"), path):
                yield Host(hive, path / "s")


async def test_an_account_from_its_link_to_its_end(host: Host) -> None:
    """Links are all that is on stdout; what is done with an account shows in the list, and ends with its removal."""
    assert "operator setup" in (await host.run("list")).stderr
    first = await host.run("setup")
    assert "a new admin, who chooses a name; it is good once and for 15 minutes" in first.stderr
    ada = await host.follow(first.stdout, "ada")
    bobs = await host.out("add", "bob", "--role", "viewer")
    assert re.search(r"bob +viewer +never +0 +0 +has a link to choose a password", await host.out())
    session = await host.follow(bobs)
    assert re.search(r"bob +viewer +just now +1 +0 +ready", await host.out("list"))
    assert await host.out("role", "bob", "operator") == "bob is operator now\n"
    assert (await host.hive.people.identify(session)).role == "operator"
    await host.follow(await host.out("passwd", "bob"))
    assert not await host.hive.is_signed_in(session), "the password is another one"
    assert "--yes" in (await host.run("remove", "bob")).stderr
    assert await host.out("remove", "bob", "--yes") == "bob has no account any more\n"
    assert "bob" not in await host.out("list")
    assert await host.hive.is_signed_in(ada)


async def test_sessions_and_tokens(host: Host) -> None:
    """Lists have no secrets; one session or token ends by its number, and all of them by revoke-all."""
    session = await host.follow(await host.out("setup", "--name", "ada"))
    made = await host.run("make-token", "ada", "nightly", "--role", "viewer", "--agent", "web", "--for", "30d")
    token = made.stdout.strip()
    assert re.fullmatch(r"ht_[\w-]{43}", token), made.output
    found = await host.hive.people.identify(token)
    assert (found.name, found.role, found.by, found.agents) == ("ada", "viewer", "token", frozenset({"web"}))
    listed = await host.out("sessions") + await host.out("tokens", "ada")
    assert re.search(r"ada +192\.0\.2\.1 +just now", listed)
    assert re.search(r"ada +nightly +viewer +web +just now", listed)
    as_json = (
        await host.out("sessions", "--json") + await host.out("tokens", "--json") + await host.out("list", "--json")
    )
    assert not [secret for secret in (session, token, PASSWORD) if secret[3:] in listed + as_json]
    assert "argon2" not in as_json
    number = json.loads(await host.out("tokens", "--json"))["tokens"][0]["id"]
    await host.out("tokens", "--revoke", str(number))
    assert [await host.hive.is_signed_in(each) for each in (session, token)] == [True, False]
    assert "there are no API tokens" in (await host.run("tokens")).stderr
    assert "--yes" in (await host.run("revoke-all")).stderr
    await host.out("passwd", "ada")
    assert await host.out("revoke-all", "--yes") == "ended: 1 sessions, 0 API tokens, 1 set-up links\n"
    assert not await host.hive.is_signed_in(session)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "Ada"), "bad_name", "may hold only a-z"),
        (("add", "hive"), "bad_name", "has a meaning of its own"),
        (("add", "operator"), "bad_name", "has a meaning of its own"),
        (("add", "x" * 33), "bad_name", "at most 32"),
        (("add", "bob"), "name_taken", "has the name 'bob' already"),
        (("setup", "--name", "bob"), "not_admin", "bob is viewer"),
        (("passwd", "eve"), "unknown_person", "no account 'eve'"),
        (("role", "eve", "admin"), "unknown_person", "no account 'eve'"),
        (("remove", "../agents", "--yes"), "bad_name", "may hold only"),
        (("make-token", "bob", "ci", "--role", "admin"), "role_too_high", "bob is viewer"),
        (("make-token", "eve", "ci"), "unknown_person", "no account 'eve'"),
        (("sessions", "--revoke", "99"), "unknown_session", "no such session"),
        (("tokens", "--revoke", "99"), "unknown_token", "no such API token"),
        (("revoke-all", "eve"), "unknown_person", "no account 'eve'"),
    ],
)
async def test_refusals(host: Host, arguments: tuple[str, ...], code: str, words: str) -> None:
    """A change that is not possible is refused with its reason."""
    await host.hive.add("bob", "viewer")
    result = await host.run(*arguments, "--json")
    assert result.exit_code == 1
    error = json.loads(result.stderr)["error"]
    assert (error["code"], words in error["message"]) == (code, True), error
    assert error["hint"]


async def test_setup_finds_the_admin(host: Host) -> None:
    """Without a name, `setup` is for the only admin; of several, one has to be named."""
    await host.hive.add("ada", "admin")
    assert json.loads(await host.out("setup", "--json"))["name"] == "ada"
    await host.hive.add("bob", "admin")
    result = await host.run("setup")
    assert result.exit_code == 1
    assert "operator setup --name NAME" in result.stderr
