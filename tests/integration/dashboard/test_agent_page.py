"""The page of an agent, in front of a real daemon and a real harness that follows a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import StreamReader

from tests.helpers.dashboard import ServedDashboard, dashboard
from tests.helpers.real_daemon import Daemon, Json, running

SCRIPT: list[Json] = [
    {
        "match": "^work (.*)",
        "say": "I look at **{1}**.",
        "think": 0.3,
        "send": [{"to": "operator", "text": "done with {1}"}],
    },
    {"match": "^sleep", "think": 60},
]


@pytest.fixture
async def ada(hive_home: Path) -> AsyncIterator[Daemon]:
    """A daemon with an agent that is at rest."""
    async with running(Daemon(hive_home, settings={"stop_timeout": 2})) as daemon:
        await daemon.spawn("ada", script=SCRIPT)
        await daemon.agent_until("ada", lambda status: status["state"] == "idle")
        yield daemon


class Window:
    """The stream of one window. `last` is the id of the newest event."""

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream
        self.last = ""
        self.seen: list[tuple[str, Json]] = []

    async def until(self, kind: str, **fields: Any) -> Json:
        """Read to an event whose data has these fields; texts need only contain them."""
        try:
            async with asyncio.timeout(20):
                return await self._until(kind, fields)
        except TimeoutError:
            raise AssertionError(f"no {kind} {fields}, but {self.seen}") from None

    async def _until(self, kind: str, fields: Json) -> Json:
        while True:
            identity, event = "", ""
            while (line := (await self._stream.readline()).decode()) != "\n":
                assert line, f"the stream has ended without {kind} {fields}: {self.seen}"
                field, _, value = line.rstrip("\n").partition(": ")
                if field == "id":
                    identity = value
                elif field == "event":
                    event = value
                elif field == "data":
                    data = json.loads(value)
            if not event:
                continue
            self.last = identity or self.last
            self.seen.append((event, data))
            if event == kind and all(_fits(data.get(name), wanted) for name, wanted in fields.items()):
                found: Json = data
                return found


def _fits(value: object, wanted: object) -> bool:
    return wanted in value if isinstance(wanted, str) and isinstance(value, str) else value == wanted


@asynccontextmanager
async def window(web: ServedDashboard, after: str) -> AsyncIterator[Window]:
    """Open the stream of a window that has seen the event `after`."""
    url = f"http://127.0.0.1:{web.port}/agents/ada/live?after={after}"
    headers = {"Host": web.origin.partition("://")[2], "Cookie": f"{web.cookie}={web.session}"}
    async with web.client.get(url, headers=headers) as response:
        assert response.status == 200
        yield Window(response.content)


async def test_page_follows_its_agent(ada: Daemon) -> None:
    """A turn streams into the page and is there after a reload; what was missed comes once, over a new harness, too."""
    async with dashboard(ada.host_socket) as web:
        page = await web.get("/agents/ada")
        assert page.status == 200
        after = page.text.partition('data-after="')[2].partition('"')[0]
        async with window(web, after) as follows:
            form = {"body": "work the <b>fields</b>", "key": "k" * 16}
            assert (await web.post("/agents/ada/messages", form)).status == 303
            await follows.until("turn", turn=1, state="running", html="work the &lt;b&gt;fields")
            await follows.until("writing", turn=1, at=0, text="I ")
            await follows.until("entry", turn=1, ends=True, html="I look at <strong>the &lt;b&gt;fields")
            await follows.until("entry", html="done with the &lt;b&gt;fields")
            place = await follows.until("turn", turn=1, state="ok")
            assert 'aria-label="Turn 1"' in place["html"]
            seen = follows.last
        again = await web.get("/agents/ada?turn=1")
        assert "I look at <strong>" in again.text and 'class="entry sent"' in again.text

        assert (await web.post("/agents/ada/messages", form, Accept="application/json")).json == {"done": "Sent."}
        await web.post("/agents/ada/messages", {"body": "work again", "key": "l" * 16})
        async with window(web, seen) as late:
            await late.until("turn", turn=2, state="ok")
        assert [data["turn"] for kind, data in late.seen if kind == "entry" and "letter" in data.get("html", "")] == [2]
        assert sum("done with again" in data.get("html", "") for kind, data in late.seen if kind == "entry") == 1

        async with window(web, late.last) as kept:
            [harness] = psutil.Process(ada.pid).children()
            harness.kill()
            await kept.until("anew")
            await web.post("/agents/ada/messages", {"body": "work at last", "key": "m" * 16})
            await kept.until("turn", turn=3, state="ok")
        shown = await web.get("/agents/ada/turns")
        assert shown.text.count('<article class="turn"') == 3


async def test_person_steers_the_agent(ada: Daemon) -> None:
    """Turns are cancelled, retried and skipped, waiting messages changed, questions answered, each with its refusal."""
    async with dashboard(ada.host_socket) as web:
        page = await web.get("/agents/ada")
        async with window(web, page.text.partition('data-after="')[2].partition('"')[0]) as follows:
            await web.post("/agents/ada/messages", {"body": "sleep well"})
            await follows.until("turn", state="running")
            for body in ("first", "second"):
                await web.post("/agents/ada/messages", {"body": body})
            queue = (await ada.ask("GET", "/v1/agents/ada/queue"))["messages"]
            first, second = (one["id"] for one in queue if not one["leased"])
            assert (await web.post(f"/agents/ada/queue/{second}/move", {"before": str(first)})).status == 303
            assert "first" in (await web.get(f"/agents/ada/queue/{first}")).text
            await web.post(f"/agents/ada/queue/{first}/edit", {"body": "the first"})
            bodies = [one["body"] for one in (await ada.ask("GET", "/v1/agents/ada/queue"))["messages"]]
            assert [body.partition("\n")[0] for body in bodies[1:]] == ["second", "the first"]
            for number in (first, second):
                await web.post(f"/agents/ada/queue/{number}/remove")
            assert (await web.get(f"/agents/ada/queue/{second}")).status == 404
            question = await ada.ask("POST", "/v1/questions", {"text": "Go on?", "options": ["Yes"]}, agent="ada")
            assert "Go on?" in (await web.get("/agents/ada")).text
            await web.post(f"/agents/ada/questions/{question['id']}", {"option": "Yes"})
            answered = (await ada.ask("GET", "/v1/questions?view=all"))["questions"]
            assert [one["answer"] for one in answered] == ["Yes"]
            await web.post("/agents/ada/control/cancel")
            await follows.until("turn", turn=1, state="held")
            await web.post("/agents/ada/control/retry", {"turn": "1"})
            await follows.until("turn", turn=1, state="running")
            await web.post("/agents/ada/control/cancel")
            await follows.until("turn", turn=1, state="held")
            await web.post("/agents/ada/control/skip", {"turn": "1"})
            await follows.until("turn", turn=1, state="skipped")
        refused = await web.post("/agents/ada/control/retry", {"turn": "1"}, Accept="application/json")
        assert (refused.status, refused.json["error"]["code"]) == (409, "not_now")
        for path in ("control/nonsense", "queue/1/nonsense"):
            assert (await web.post(f"/agents/ada/{path}")).status == 404
        assert (await web.get("/agents/ada?turn=x")).status == 400
        assert (await web.get("/agents/nobody")).status == 404
        assert (await web.get("/agents/ada/turns/1/9.9")).status == 404
