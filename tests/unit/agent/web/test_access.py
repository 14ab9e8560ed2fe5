"""Who gets to the page: tickets, sessions in two halves, other origins, and what browsers are told."""

from __future__ import annotations

import asyncio

import pytest

from hive_agent.web.sessions import Sessions, split
from hive_core.protocol import PageSession
from tests.unit.agent.web.fake_browser import FakeBrowser, browsing
from tests.unit.agent.web.fakes import TICKET, FakeDaemonApi, Served

READS = ("now", "turns", "transcript?turn=1", "inbox", "open")
CHANGES = {
    "send": {"body": "hi", "key": "12345678"},
    "answer": {"question": 1, "text": "yes"},
    "cancel": {},
    "retry": {"turn": 1},
    "skip": {"turn": 1},
    "compact": {},
    "new-session": {},
    "choose": {"model": None, "effort": None},
    "login": {},
    "code": {"code": "x"},
}


async def codes(browser: FakeBrowser, **headers: str) -> set[str]:
    """The refusals of everything that can be asked."""
    found = {await browser.code("GET", f"/api/{path}", **headers) for path in READS}
    found |= {await browser.code("POST", f"/api/{path}", body, **headers) for path, body in CHANGES.items()}
    return found | {await browser.code("GET", f"/events?key={browser.key}", **headers)}


async def test_nothing_without_a_session(page: Served) -> None:
    """Without a session there is nothing to read and nothing to change, on the port and on the socket alike."""
    for socket in (False, True):
        async with browsing(page, enter=False, socket=socket) as stranger:
            assert await codes(stranger) == {"no_session"}
    assert page.controls.calls == [] and page.hive.sent == []


async def test_half_a_session_is_none(page: Served, browser: FakeBrowser) -> None:
    """The cookie alone, which browsers show to every port of the host, opens nothing; nor does the key alone."""
    whole = browser.cookie, browser.key
    browser.key = ""
    assert await codes(browser) == {"no_session"}
    browser.cookie, browser.key = "", whole[1]
    assert await codes(browser) == {"no_session"}
    browser.cookie, browser.key = whole
    assert await browser.code("GET", "/api/now") == ""


async def test_a_ticket_works_once(page: Served) -> None:
    """The second exchange of a ticket is refused, as is one that was made up."""
    async with browsing(page) as browser:
        assert (await browser.enter(TICKET)).status == 403
        assert await browser.code("POST", "/enter", {"ticket": "made up"}) == "bad_ticket"
        assert await browser.code("POST", "/enter", {"ticket": ""}) == "invalid_request"


async def test_the_cookie(page: Served) -> None:
    """Scripts cannot read it, other sites do not make the browser send it, and it ends with the session."""
    async with browsing(page, enter=False) as browser:
        cookie = (await browser.enter()).headers["Set-Cookie"]
    name, *attributes = cookie.split("; ")
    assert name.startswith(f"hive-alice-{page.port}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3600"} <= set(attributes)


async def test_other_origins_change_nothing(page: Served, browser: FakeBrowser) -> None:
    """With a session, too, a page of another origin is refused, whatever it asks."""
    assert await codes(browser, Origin="http://127.0.0.1:1") == {"bad_origin"}
    assert await codes(browser, **{"Sec-Fetch-Site": "same-site"}) == {"bad_origin"}
    assert page.controls.calls == [] and page.hive.sent == []


async def test_other_hosts_see_nothing(page: Served, browser: FakeBrowser) -> None:
    """A name that points here by DNS rebinding gets not even the empty page."""
    assert await codes(browser, Host="evil.example") == {"bad_host"}
    for path in ("/", "/enter", "/static/page.js"):
        assert await browser.code("GET", path, Host=f"evil.example:{page.port}") == "bad_host"


@pytest.mark.parametrize("path", ["/", "/enter", "/static/page.js", "/api/now", "/events", "/nowhere"])
async def test_what_browsers_are_told(page: Served, path: str) -> None:
    """Every answer forbids inline scripts, foreign resources, frames, guessed types, referrers, and caching of data."""
    async with browsing(page, enter=False) as browser:
        answer = await browser.ask("GET", path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy and "data:" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == ("no-cache" if answer.status == 200 else "no-store")


async def test_sessions_are_asked_for_once_a_minute() -> None:
    """A good session is remembered for a minute, and then has to be good still."""
    now = 0.0
    hive = FakeDaemonApi()
    sessions = Sessions(hive, "alice", lambda: now)
    cookie, key = split((await sessions.enter(TICKET)).session)
    for _ in range(5):
        await sessions.check(cookie, key)
    assert hive.checks == 0
    now = 61.0
    await sessions.check(cookie, key)
    assert hive.checks == 1
    hive.sessions.clear()
    now = 200.0
    with pytest.raises(Exception, match="not signed in"):
        await sessions.check(cookie, key)


async def test_strangers_take_few_connections() -> None:
    """However many knock with no session, the daemon is asked about a few at once, and about each in the end."""
    hive = FakeDaemonApi()
    asked, most, go_on = 0, 0, asyncio.Event()

    class Slow(FakeDaemonApi):
        async def page_check(self, session: str) -> PageSession:
            nonlocal asked, most
            asked += 1
            most = max(most, asked)
            await go_on.wait()
            asked -= 1
            return await hive.page_check(session)

    sessions = Sessions(Slow(), "alice")
    knocking = [asyncio.ensure_future(sessions.check(f"cookie{number}", "key")) for number in range(60)]
    async with asyncio.timeout(20):
        while not asked:
            await asyncio.sleep(0)
        go_on.set()
        refused = await asyncio.gather(*knocking, return_exceptions=True)
    assert {str(error) for error in refused} == {"this browser is not signed in, or not any more"}
    assert (hive.checks, most) == (60, 4)


async def test_the_daemon_is_away(page: Served, browser: FakeBrowser) -> None:
    """Who has a session can look on while the daemon restarts; who needs the daemon is told."""
    page.hive.away = True
    assert await browser.code("GET", "/api/now") == ""
    assert await browser.code("POST", "/api/send", CHANGES["send"]) == "unreachable"
    async with browsing(page, enter=False) as other:
        other.cookie, other.key = browser.cookie[:-1] + "x", browser.key
        assert await other.code("GET", "/api/now") == "unreachable"


async def test_a_session_that_ends(page: Served, browser: FakeBrowser) -> None:
    """When the daemon does not know the session any more, the page asks for a new link."""
    page.hive.sessions.clear()
    assert await browser.code("POST", "/api/send", CHANGES["send"]) == "no_session"
    assert await browser.code("GET", "/api/now") == "no_session"


def test_a_short_session_is_not_split() -> None:
    """Halves that could be guessed are not given out."""
    with pytest.raises(ValueError, match="too short"):
        split("x" * 31)
