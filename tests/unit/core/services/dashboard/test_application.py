"""The web application in front of a daemon that knows a few people."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.dashboard import ServedDashboard, dashboard
from tests.unit.core.services.dashboard.fake_people import fake_people


@pytest.fixture
async def web() -> AsyncIterator[ServedDashboard]:
    """A dashboard that asks the daemon who somebody is."""
    with tempfile.TemporaryDirectory(prefix="hw") as place:
        socket = Path(place, "d.sock")
        async with fake_people(socket), dashboard(socket, role=None) as served:
            served.session = "hs_ada"
            yield served


async def raw(web: ServedDashboard, head: str, body: bytes = b"") -> tuple[int, str]:
    """Send a request as it stands, and return status and text of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(head.replace("\n", "\r\n").encode() + b"Connection: close\r\n\r\n" + body)
    answer = (await asyncio.wait_for(reader.read(), 20)).decode(errors="replace")
    writer.close()
    return int(answer.split(" ", 2)[1]), answer


@pytest.mark.parametrize(
    "target",
    [
        "/agents/%2e%2e/%2e%2e/etc",
        "/agents/..%2f..%2fsettings",
        "/static/x/..%2f..%2fapplication.py",
        "/static/../application.py",
        "/static/x/%2e%2e%5capplication.py",
        "//evil.example/",
        "/\\evil.example",
        "/%00",
        "/agents/%00",
        "/agents/%ff%fe",
        "/.%2e/",
        "/;/settings",
    ],
)
async def test_tricks_with_paths_find_nothing(web: ServedDashboard, target: str) -> None:
    """A path that is not an address of the dashboard ends there, without a file, a redirection or a failure."""
    cookie = f"Cookie: {web.cookie}=hs_ada"
    status, answer = await raw(web, f"GET {target} HTTP/1.1\nHost: {web.origin[7:]}\n{cookie}\n")
    assert status in (400, 404), answer
    assert "Location:" not in answer


async def test_forged_hosts_see_no_page(web: ServedDashboard) -> None:
    """Another host, two hosts, none, and a target with another host are refused, and set no cookie."""
    own, cookie = web.origin.partition("://")[2], f"Cookie: {web.cookie}=hs_ada\n"
    good, _ = await raw(web, f"GET {web.origin}/settings HTTP/1.1\nHost: {own}\n{cookie}")
    assert good != 421
    for head in (
        f"GET / HTTP/1.1\nHost: 127.0.0.1:{web.port}\n{cookie}",
        f"GET / HTTP/1.1\nHost: {own}\nHost: evil.example\n{cookie}",
        f"GET / HTTP/1.0\n{cookie}",
        f"GET http://evil.example/ HTTP/1.1\nHost: {own}\n{cookie}",
    ):
        status, answer = await raw(web, head)
        assert status in (400, 421), answer
        assert "Set-Cookie" not in answer


async def test_only_forms_are_taken_as_forms(web: ServedDashboard) -> None:
    """A body that a page elsewhere can send without asking (text, JSON as text) is no form; a cut form is refused."""
    for kind in ("text/plain", "application/json", "", "application/x-www-form-urlencoded2", "multipart/form-data"):
        shown = await web.post("/sign-out", {}, **{"Content-Type": kind})
        assert shown.status == 400, (kind, shown.text)


async def test_actions_of_other_pages_are_refused(web: ServedDashboard) -> None:
    """A POST of another origin, or without the session's token, does nothing."""
    assert (await web.post("/sign-out", Origin="http://127.0.0.1:3000")).status == 403
    assert (await web.post("/sign-out", Origin="null")).status == 403
    assert (await web.post("/sign-out", {}, **{"Sec-Fetch-Site": "same-site"})).status == 403
    assert (await web.post("/sign-out", {}, **{"Hive-Csrf": "0" * 32})).status == 403


async def test_cookies_of_other_services(web: ServedDashboard) -> None:
    """Cookies beside ours change nothing, the session that has not ended counts, and two that live are refused."""
    for cookie, status in (
        (f"{web.cookie}=hs_gone; {web.cookie}=hs_ada", 303),
        (f"{web.cookie}=evil; {web.cookie}=hs_ada; a=b; {web.cookie}", 303),
        (f"{web.cookie}=hs_eve; {web.cookie}=hs_ada", 400),
        (f"{web.cookie}=hs_gone", 200),
    ):
        # Whoever is signed in is sent on from the page to sign in.
        shown = await web.get("/sign-in", Cookie=cookie)
        assert shown.status == status, cookie


async def test_error_pages_know_the_visitor(web: ServedDashboard) -> None:
    """A page that is not there keeps the navigation of somebody who is signed in; a script gets JSON."""
    shown = await web.get("/nothing-here")
    assert shown.status == 404
    assert shown.headers["Server"] == "hyperhive"
    assert (await web.ask("GET", "/nothing-here", headers={})).json["error"]["code"] == "not_found"
    wrong = await web.get("/sign-out")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")


async def test_large_bodies_of_strangers(web: ServedDashboard) -> None:
    """Those who are not signed in send small forms only."""
    web.session = ""
    shown = await web.post("/sign-in", {"name": "a" * 20_000, "password": "b"})
    assert shown.status == 413
    assert (await web.post("/sign-in", {"name": "ada", "password": "b"})).status == 401


async def test_scripts_use_the_api_with_tokens_only(web: ServedDashboard) -> None:
    """A token's request reaches the daemon unchanged, streams too; a session or nothing does not get there."""
    web.session = ""
    token = {"Authorization": "Bearer ht_ada", "Content-Type": "application/json"}
    echo = await web.ask("POST", "/api/v1/echo?a=%26", headers={**token, "Cookie": "x=y", "Origin": "z"}, data="{}")
    assert (echo.json["target"], echo.json["body"]) == ("/v1/echo?a=%26", "{}")
    assert not {"Cookie", "Origin"} & set(echo.json["headers"])
    assert echo.json["headers"]["Authorization"] == "Bearer ht_ada"
    assert (await web.ask("GET", "/api/v1/events", headers=token)).text == "id: 7\ndata: {}\n\n"
    for refused in ({}, {"Authorization": "Bearer hs_ada"}, {"Cookie": f"{web.cookie}=hs_ada"}):
        assert (await web.ask("GET", "/api/v1/me", headers=refused)).status == 401


async def test_health_and_metrics(web: ServedDashboard) -> None:
    """Everybody may ask if the dashboard is ready; its figures are for tokens of admins."""
    web.session = ""
    assert (await web.ask("GET", "/healthz", headers={})).json == {"role": "dashboard", "ready": True, "problem": ""}
    assert (
        "hive_dashboard_windows" in (await web.ask("GET", "/metrics", headers={"Authorization": "Bearer ht_adm"})).text
    )
    assert (await web.ask("GET", "/metrics", headers={"Authorization": "Bearer ht_ada"})).status == 403
    assert (await web.ask("GET", "/metrics", headers={})).status == 401


async def test_without_a_daemon_the_dashboard_says_so(tmp_path: Path) -> None:
    """The dashboard starts without the daemon, is not ready, and shows the reason."""
    async with dashboard(tmp_path / "none.sock", role=None) as web:
        shown = await web.ask("GET", "/healthz", headers={})
        assert (shown.status, shown.json["ready"]) == (503, False)
        assert (await web.get("/")).status == 503
