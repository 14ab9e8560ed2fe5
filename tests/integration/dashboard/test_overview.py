"""The overview and actions on agents, in front of a real daemon."""

from __future__ import annotations

import pytest

from tests.helpers.dashboard import dashboard
from tests.helpers.real_daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_overview_shows_and_answers_what_waits(shared: Daemon) -> None:
    """A question is shown in the agent's words and answered in place; a viewer sees it and cannot answer."""
    question = await shared.ask("POST", "/v1/questions", {"text": "<b>Go?</b>", "options": ["Yes"]}, agent="ann")
    await shared.ask("POST", "/v1/messages", {"to": "bob", "body": "hello"})
    answer = f"/needs/questions/{question['id']}"
    async with dashboard(shared.host_socket, "viewer", "vic") as web:
        shown = (await web.get("/")).text
        assert "&lt;b&gt;Go?&lt;/b&gt;" in shown
        assert "<title>(1) Overview" in shown
        main = shown[shown.index("<main") :]
        assert "<button" not in main.replace("<button>Filter", "")
        assert (await web.post(answer, {"option": "1"})).status == 403
    async with dashboard(shared.host_socket) as web:
        assert (await web.post(answer, {"text": " "})).status == 400
        assert (await web.post(answer, {"option": "1"})).headers["Location"] == "/"
        shown = (await web.get("/?q=bob")).text
        assert "data-need" not in shown
        assert 'data-agent="bob"' in shown
        assert 'data-agent="ann"' not in shown
    (found,) = (await shared.ask("GET", "/v1/questions?view=all"))["questions"]
    assert found["answer"] == "Yes"


async def test_agents_are_started_limited_destroyed_and_purged(shared: Daemon) -> None:
    """Each action reaches the agent; an end needs its name, and what is kept is listed and can be removed."""
    await shared.spawn("dee", start=False)
    async with dashboard(shared.host_socket) as web:
        assert (await web.post("/agents/dee/act", {"do": "start"})).status == 303
        await shared.agent_until("dee", lambda agent: agent["state"] == "idle")
        assert (await web.post("/agents/dee/act", {"do": "pause"})).status == 303
        await shared.agent_until("dee", lambda agent: agent["state"] == "paused")
        activity = await shared.ask("GET", "/v1/activity")
        assert [each["agent"] for each in activity["agents"]] == ["dee"]
        assert activity["spawned_by"]["dee"] == "operator"
        assert "paused" in (await web.get("/?state=paused")).text
        assert (await web.post("/agents/dee/act", {"do": "explode"})).status == 400
        assert "Limits of" in (await web.get("/agents/dee/limits")).text
        refused = await web.post("/agents/dee/limits", {"tasks_max": "100"})
        assert "cannot limit" in refused.text

        assert "Type <code>dee</code>" in (await web.get("/agents/dee/destroy")).text
        assert (await web.post("/agents/dee/destroy", {"confirm": "bob"})).status == 400
        assert "dee" in await shared.agents()
        assert (await web.post("/agents/dee/destroy", {"confirm": "dee"})).status == 303
        assert "dee" not in await shared.agents()
        assert 'href="/kept/dee/purge"' in (await web.get("/kept")).text
        assert (await web.post("/kept/dee/purge", {"confirm": ""})).status == 400
        assert (await web.post("/kept/dee/purge", {"confirm": "dee"})).status == 303
        assert "Nothing is kept" in (await web.get("/kept")).text


async def test_a_new_agent_is_shown_before_it_is_made(shared: Daemon) -> None:
    """The form shows the files of the agent, keeps what was typed when the daemon refuses, and makes the agent."""
    form = {"name": "cy", "backend": "scripted", "prompt": "You </textarea><script>", "network": "sealed", "do": ""}
    async with dashboard(shared.host_socket) as web:
        preview = await web.post("/new-agent", form)
        assert "backend = &#34;scripted&#34;" in preview.text
        assert "You &lt;/textarea&gt;&lt;script&gt;" in preview.text
        assert "cy" not in await shared.agents()
        refused = await web.post("/new-agent", {**form, "name": "Bad Name", "do": "make"})
        assert refused.status == 400
        assert 'value="Bad Name"' in refused.text
        made = await web.post("/new-agent", {**form, "do": "make", "memory_max": ""})
        assert made.headers["Location"] == "/new-agent/cy"
        assert "cy" in await shared.agents()
        progress = (await web.get("/new-agent/cy")).text
        assert "made</span>: cy is stopped" in progress
        assert (await web.get("/new-agent/..%2Fx")).status == 404
