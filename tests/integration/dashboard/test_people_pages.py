"""The pages of accounts in front of a real daemon: set up, sign in, settings, sign out."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie

from tests.helpers.dashboard import ServedDashboard, Shown, dashboard
from tests.helpers.real_daemon import Daemon
from tests.unit.core.cli.run_cli import Program

PASSWORD = "correct horse"


def take_session(web: ServedDashboard, shown: Shown) -> None:
    """Do what a browser does with the cookie of an answer."""
    cookie = SimpleCookie(shown.headers["Set-Cookie"])[web.cookie]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    web.session = cookie.value


async def test_from_the_link_to_the_end(hive: Daemon) -> None:
    """A link makes an account, whose page changes its password, makes and revokes tokens, and ends sessions."""
    cli = Program(hive.host_socket)
    link = (await cli.run("operator", "setup")).out.strip()
    async with dashboard(hive.run_dir / "dashboard.sock", role=None) as web:
        web.session = ""
        assert 'id="token"' in (await web.get("/setup")).text
        form = {"token": link.partition("#")[2], "name": "ada", "password": PASSWORD, "again": "other"}
        assert "the two passwords differ" in (await web.post("/setup", form)).text
        shown = await web.post("/setup", {**form, "again": PASSWORD})
        assert (shown.status, shown.headers["Location"]) == (303, "/")
        take_session(web, shown)
        assert (await web.post("/setup", {**form, "again": PASSWORD})).status in (400, 403, 404), "a link is good once"
        first = web.session
        wrong = await web.post("/sign-in", {"name": "ada", "password": "wrong"})
        assert (wrong.status, "<h1>Sign in</h1>" in wrong.text) == (401, True)

        page = await web.get("/settings")
        assert (page.status, "Settings of ada" in page.text, "hive-c0re operator add" in page.text) == (200, True, True)
        made = await web.post("/settings/tokens", {"name": "nightly", "role": "viewer", "days": "7", "agents": "ann"})
        token = re.search(r"ht_[\w-]+", made.text)
        assert token is not None, made.text
        assert token[0] not in (await web.get("/settings")).text
        headers = {"Authorization": f"Bearer {token[0]}"}
        web.session = ""
        assert (await web.ask("GET", "/api/v1/me", headers=headers)).json["agents"] == ["ann"]
        web.session = first
        revoke = re.search(r"/settings/tokens/\d+/revoke", (await web.get("/settings")).text)
        assert revoke is not None
        assert (await web.post(revoke[0])).headers["Location"] == "/settings"
        assert (await web.ask("GET", "/api/v1/me", headers=headers)).status == 401

        changed = await web.post(
            "/settings/password", {"old": PASSWORD, "new": "another horse", "again": "another horse"}
        )
        take_session(web, changed)
        second, web.session = web.session, ""
        take_session(web, await web.post("/sign-in", {"name": "ada", "password": "another horse"}))
        assert (await web.post("/settings/sessions/revoke-others")).status == 303
        third = web.session
        for ended in (first, second):
            web.session = ended
            assert (await web.get("/settings")).headers["Location"] == "/sign-in"
        web.session = third
        out = await web.post("/sign-out")
        assert (out.headers["Location"], web.cookie in out.headers["Set-Cookie"]) == ("/sign-in", True)
        assert (await web.get("/settings")).headers["Location"] == "/sign-in", "a stolen cookie is of no use"
