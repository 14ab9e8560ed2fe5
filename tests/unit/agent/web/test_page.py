"""What the page reads, what it does, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hive_agent.backends.transcript import TranscriptText
from tests.unit.agent.web.fake_browser import FakeBrowser, browsing
from tests.unit.agent.web.fakes import Served
from tests.unit.agent.web.test_access import CHANGES

KEY = "0123456789abcdef"


async def test_every_change_reaches_its_place(page: Served, browser: FakeBrowser) -> None:
    """Each button's request is carried out, once, with what was said."""
    page.hive.ask(1, "May I?")
    for path, body in CHANGES.items():
        assert await browser.code("POST", f"/api/{path}", {"code": "right"} if path == "code" else body) == ""
    assert page.controls.calls == [
        ("cancel",), ("retry", 1), ("skip", 1), ("compact",), ("new_session",), ("choose", None, None), ("log_in",),
        ("give_code", "right"),
    ]  # fmt: skip
    assert page.hive.sent == [("hi", None, "12345678")]
    assert page.hive.answers == [(1, "yes")]


async def test_what_does_not_fit_now(page: Served, browser: FakeBrowser) -> None:
    """A request at the wrong moment is refused with what the harness says."""
    page.controls.refuse = "no turn is running"
    for path in ("cancel", "compact", "login"):
        answer = await browser.ask("POST", f"/api/{path}", {})
        assert answer.status == 409
        error = answer.json()["error"]
        assert (error["code"], error["message"]) == ("not_now", "no turn is running")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("retry", {}, "invalid_request"),
        ("retry", {"turn": "1"}, "invalid_request"),
        ("retry", {"turn": 1, "force": True}, "invalid_request"),
        ("retry", {"turn": -1}, "invalid_request"),
        ("choose", {"model": "x" * 201, "effort": None}, "invalid_request"),
        ("choose", {"model": None, "effort": "utmost"}, "invalid_request"),
        ("send", {"body": "", "key": KEY}, "invalid_request"),
        ("send", {"body": "x", "key": "short"}, "invalid_request"),
        ("cancel", b"not JSON", "invalid_request"),
        ("cancel", b"\xff" * 100, "invalid_request"),
        ("cancel", b" " * 70_000, "too_large"),
        ("send", b" " * 2_200_000, "too_large"),
    ],
)
async def test_wrong_bodies(browser: FakeBrowser, path: str, body: Any, code: str) -> None:
    """What is not of the right form or too large is refused in words, and nothing is done."""
    headers = {"Content-Type": "application/json"} if isinstance(body, bytes) else {}
    assert await browser.code("POST", f"/api/{path}", body, **headers) == code


async def test_a_body_of_unknown_length(page: Served, browser: FakeBrowser) -> None:
    """A body that comes in chunks is bounded as well, though it does not say how long it is."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b" " * 10_000

    assert await browser.code("POST", "/api/cancel", endless(), **{"Content-Type": "application/json"}) == "too_large"
    assert page.controls.calls == []


async def test_changes_are_json(page: Served, browser: FakeBrowser) -> None:
    """A form of another page could send text, but no JSON without being asked about first: only that is taken."""
    for content in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert await browser.code("POST", "/api/cancel", b"{}", **{"Content-Type": content}) == "not_json"
    assert page.controls.calls == []


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/static/../feed.py", "not_found"),
        ("GET", "/static/..%2ffeed.py", "not_found"),
        ("GET", "/static/%2e%2e/app.py", "not_found"),
        ("GET", "/static/page.html.j2", "not_found"),
        ("GET", "/api/cancel", "method_not_allowed"),
        ("PUT", "/api/now", "method_not_allowed"),
        ("GET", "/api/turns?limit=1000", "invalid_request"),
        ("GET", "/api/turns?befor=1", "invalid_request"),
        ("GET", "/api/transcript?turn=x", "invalid_request"),
        ("GET", "/api/transcript?turn=1&before=1.1.1", "invalid_request"),
    ],
)
async def test_wrong_paths(browser: FakeBrowser, method: str, path: str, code: str) -> None:
    """Only what there is can be had, and a question has to be of the right form."""
    assert await browser.code(method, path) == code


async def test_history_in_pages(page: Served, browser: FakeBrowser) -> None:
    """Older turns come newest first, below the one that the reader has."""
    for number in range(1, 31):
        page.controls.turn(number, "ok", quietly=True)
    first = (await browser.ask("GET", "/api/turns")).json()["turns"]
    assert [turn["id"] for turn in first] == list(range(30, 20, -1))
    older = (await browser.ask("GET", "/api/turns?before=21&limit=3")).json()["turns"]
    assert [turn["id"] for turn in older] == [20, 19, 18]


async def test_transcripts_in_pages(page: Served, browser: FakeBrowser) -> None:
    """A transcript is had from its end, part by part, each bounded in count and size; together they are all of it."""
    page.controls.turn(1, quietly=True)
    page.controls.tell(
        1,
        *(TranscriptText(str(number)) for number in range(700)),
        TranscriptText("x" * 600_000),
        TranscriptText("end"),
        quietly=True,
    )
    found: list[str] = []
    mark, more = "", True
    while more:
        answer = await browser.ask("GET", f"/api/transcript?turn=1{mark}")
        part = answer.json()
        assert len(part["entries"]) <= 200 and len(answer.body) < 1_000_000
        found = [entry["text"] for entry in part["entries"]] + found
        mark, more = f"&before={part['entries'][0]['attempt']}.{part['entries'][0]['n']}", part["more"]
    assert found[:700] == [str(number) for number in range(700)]
    assert "600,000 characters" in found[700] and found[701:] == ["end"]


async def test_hostile_texts_are_data(page: Served, browser: FakeBrowser) -> None:
    """No text of a model gets into the HTML: that holds the agent's name and nothing else."""
    page.controls.standing["detail"] = "<script>alert(1)</script>"
    html = (await browser.ask("GET", "/")).body.decode()
    assert "alert(" not in html and 'data-agent="alice"' in html
    answer = await browser.ask("GET", "/api/now")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()["snapshot"]["detail"] == "<script>alert(1)</script>"


async def test_files_are_asked_for_once(browser: FakeBrowser) -> None:
    """A browser that has a file already is told so, and gets the new one after an update."""
    first = await browser.ask("GET", "/static/page.css")
    again = await browser.ask("GET", "/static/page.css", **{"If-None-Match": first.headers["ETag"]})
    assert (first.status, first.headers["Content-Type"], again.status) == (200, "text/css; charset=utf-8", 304)
    assert (await browser.ask("GET", "/static/page.css", **{"If-None-Match": '"other"'})).status == 200


async def test_on_the_socket(page: Served) -> None:
    """The same page is on the socket, for the host's dashboard, with sessions of its own."""
    async with browsing(page, socket=True) as dashboard:
        assert dashboard.cookie.startswith("hive-alice=")
        assert await dashboard.code("POST", "/api/cancel", {}) == ""
    assert page.controls.calls == [("cancel",)]


def test_an_idle_harness_does_not_pay_for_the_page() -> None:
    """Until somebody looks at the page, its template engine is not loaded."""
    program = "import sys, hive_agent.web.serving; print([name for name in ('jinja2', 'mcp') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
