"""Accounts of a real daemon: from the set-up link on the command line to the end of a session."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import Any

import aiohttp

from tests.helpers.real_daemon import Daemon
from tests.unit.core.cli.run_cli import Program

PASSWORD = "correct horse"
Json = dict[str, Any]


class Browser:
    """A person's requests on the socket of the dashboard, with the session or token that they have."""

    def __init__(self, hive: Daemon) -> None:
        self._hive = hive
        self.secret = ""
        self.following = asyncio.Event()

    async def request(self, method: str, path: str, body: object = None) -> tuple[int, Json]:
        """Return status and answer."""
        headers = {"Hive-Client-Address": "192.0.2.1"}
        if self.secret:
            headers["Authorization"] = f"Bearer {self.secret}"
        connector = aiohttp.UnixConnector(str(self._hive.run_dir / "dashboard.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://hive/v1/{path}", json=body, headers=headers) as response,
        ):
            return response.status, json.loads(await response.read())

    async def begin(self, path: str, body: object) -> Json:
        """Begin a session, and keep it."""
        status, answer = await self.request("POST", path, body)
        assert status == 200, answer
        self.secret = answer["session"]
        return answer

    async def follow(self) -> None:
        """Read the stream of events until the daemon ends it."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        connector = aiohttp.UnixConnector(str(self._hive.run_dir / "dashboard.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://hive/v1/events", headers=headers) as response,
        ):
            assert response.status == 200
            self.following.set()
            with suppress(aiohttp.ClientPayloadError):
                await response.read()

    async def is_signed_in(self) -> bool:
        status, answer = await self.request("GET", "me")
        assert status == 200 or (status == 401 and answer["error"]["code"] == "not_signed_in")
        return status == 200


async def test_a_person_signs_in_and_out(hive: Daemon) -> None:
    """A link makes the first admin; passwords and tokens do what they say, over a restart; no log has a secret."""
    cli, ada, script = Program(hive.host_socket), Browser(hive), Browser(hive)
    link = (await cli.run("operator", "setup")).out
    found = re.fullmatch(r"http://hive\.localhost:7000/setup#(hl_[\w-]{43})\n", link)
    assert found is not None, link
    begun = await ada.begin("set-up", {"token": found[1], "name": "ada", "password": PASSWORD})
    assert (begun["name"], begun["role"]) == ("ada", "admin")
    first = ada.secret
    begun = await ada.begin("sign-in", {"name": "ada", "password": PASSWORD})
    me = (await ada.request("GET", "me"))[1]
    assert (me["name"], me["role"], me["by"], me["credential"]) == ("ada", "admin", "session", begun["id"])
    status, refused = await ada.request("POST", "sign-in", {"name": "ada", "password": "correct hors"})
    assert (status, refused["error"]["code"]) == (401, "wrong_password")

    made = (await ada.request("POST", "tokens", {"name": "nightly", "role": "viewer", "agents": ["ann"]}))[1]
    script.secret = made["token"]
    me = (await script.request("GET", "me"))[1]
    assert (me["name"], me["role"], me["by"], me["agents"]) == ("ada", "viewer", "token", ["ann"])
    for path, body in (("tokens", {"name": "more"}), ("me/password", {"old": PASSWORD, "new": "x" * 8})):
        status, refused = await script.request("POST", path, body)
        assert (status, refused["error"]["code"]) == (403, "session_needed")

    await ada.begin("me/password", {"old": PASSWORD, "new": "another horse"})
    listed = (await ada.request("GET", "sessions"))[1]["sessions"]
    assert [(each["person"], each["address"], each["current"]) for each in listed] == [("ada", "192.0.2.1", True)]
    secrets = {first, ada.secret, script.secret, found[1], PASSWORD, "another horse"}
    stream = asyncio.create_task(ada.follow())
    await ada.following.wait()
    await ada.request("POST", "sign-out", {})
    await asyncio.wait_for(stream, 10)
    assert not await ada.is_signed_in()
    assert await script.is_signed_in()
    assert (await cli.run("operator", "role", "ada", "viewer")).code == 0
    assert (await cli.run("operator", "revoke-all", "--yes", "--json")).json["tokens"] == 1
    assert not await script.is_signed_in()

    await ada.begin("sign-in", {"name": "ada", "password": "another horse"})
    status, refused = await ada.request("POST", "people", {"name": "eve", "role": "admin"})
    assert (status, refused["error"]["code"]) == (405, "method_not_allowed"), "accounts are managed on the host only"
    assert (await hive.request("POST", "/v1/agents", {"name": "ada"}))[1]["error"]["code"] == "name_taken"
    assert (await hive.request("POST", "/v1/people", {"name": "ann"}))[1]["error"]["code"] == "name_taken"
    assert await hive.terminate() == 0
    await hive.start()
    assert await ada.is_signed_in()

    printed = "".join(
        [(await cli.run("operator", what, "--json")).out for what in ("list", "sessions", "tokens")]
        + [(await cli.run("audit", "show", "--json")).out, hive.log_text()]
    )
    assert '"person:ada"' in printed
    assert not [secret for secret in secrets if secret in printed]
