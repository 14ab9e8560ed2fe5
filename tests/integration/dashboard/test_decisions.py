"""Decisions of people on the dashboard's pages, in front of a real daemon."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path

import aiohttp

from tests.helpers.dashboard import ServedDashboard, Shown, dashboard
from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.harness.in_sandbox import needs_bubblewrap
from tests.unit.core.cli.run_cli import Program

HOSTILE = "# </td><script>window.pwned = 1</script> & so on\n"


def commit(place: Path, files: dict[str, str]) -> str:
    """Make a commit in a repository of an agent."""
    for name, text in files.items():
        (place / name).write_text(text)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "a change")
    return git(place, "rev-parse", "HEAD")


async def until(daemon: Daemon, path: str, *states: str) -> Json:
    """Wait until a proposal is in one of the states."""
    found = await daemon.ask("GET", path)
    while found["state"] not in states:
        assert found["state"] not in ("failed", "denied", "withdrawn", "deployed"), found
        found = await daemon.ask("GET", f"{path}?unlike={found['state']}&wait_seconds=20")
    return found


async def propose(daemon: Daemon, files: dict[str, str], note: str) -> Json:
    """Propose files as ann, and wait until they are built."""
    place = daemon.state_dir / "agents/ann/config"
    applied = daemon.state_dir / "applied/ann.git"
    git(place, "fetch", "--quiet", str(applied), "main")
    git(place, "reset", "--quiet", "--hard", "FETCH_HEAD")
    sha = commit(place, files)
    made = await daemon.ask("POST", "/v1/proposals", {"commit": sha, "note": note}, agent="ann")
    return await until(daemon, f"/v1/proposals/ann/{made['number']}", "built")


@asynccontextmanager
async def signed_in(hive: Daemon, name: str, role: str) -> AsyncIterator[ServedDashboard]:
    """A dashboard on its own socket, and the session of a person with a new account."""
    link = (await Program(hive.host_socket).run("operator", "add", name, "--role", role)).out
    found = re.search(r"hl_[\w-]{43}", link)
    assert found is not None, link
    body = {"token": found[0], "name": name, "password": "correct horse"}
    async with dashboard(hive.run_dir / "dashboard.sock", role=None) as web:
        connector = aiohttp.UnixConnector(str(hive.run_dir / "dashboard.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.post("http://hive/v1/set-up", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()
            web.session = (await answer.json())["session"]
        yield web


def page_of(made: Shown) -> str:
    """Return the address that a form leads to."""
    assert made.status == 303, made.text
    return made.headers["Location"]


async def test_decisions_on_configurations(hive: Daemon) -> None:
    """A person denies a proposal with comments on lines, approves the next, rolls it back, and edits the agent."""
    async with signed_in(hive, "pia", "operator") as web:
        prompt = "Bake.\n" + "".join(f"line {number}\n" for number in range(600))
        first = await propose(hive, {"prompt.md": prompt, "zebra.nix": HOSTILE}, "I want <b>bread</b>")
        listed = await web.get("/decisions")
        assert "/decisions/agents/ann/1" in listed.text and "I want &lt;b&gt;bread&lt;/b&gt;" in listed.text
        shown = await web.get("/decisions/agents/ann/1")
        assert first["commit"] in shown.text and "line 599" in shown.text and "hm1nd has been asked" in shown.text
        # The second file is loaded when the reader comes to it.
        assert "so on" not in shown.text
        source = unescape(re.findall(r'data-source="([^"]+)"', shown.text)[0])
        file = await web.get(source)
        assert "&lt;/td&gt;&lt;script&gt;" in file.text and "<html" not in file.text
        assert "so on" in (await web.get("/decisions/agents/ann/1/files/1?view=split")).text
        assert (await web.get("/decisions/agents/ann/1/files/9")).status == 404
        assert (await web.get(source.replace(first["commit"], "0" * 40))).status == 409

        async with signed_in(hive, "vera", "viewer") as viewer:
            seen = (await viewer.get("/decisions/agents/ann/1")).text
            assert "line 599" in seen and 'id="decide"' not in seen and 'button type="button" class="no"' not in seen
            assert "Propose it" not in (await viewer.get("/agents/ann/edit")).text
        decision = {"commit": first["commit"], "expect": "built"}
        refused = await web.post(
            "/decisions/agents/ann/1/approve", {**decision, "commit": "0" * 40, "note": "my words"}
        )
        assert refused.status == 409 and "my words" in refused.text and 'role="alert"' in refused.text
        comments = {"note": "Not yet.", "line new 2 0 prompt.md": "too long", "line new 1 1 zebra.nix": "why?"}
        await web.post("/decisions/agents/ann/1/deny", {**decision, **comments})
        denied = await hive.ask("GET", "/v1/proposals/ann/1")
        assert (denied["state"], denied["outcome"]) == (
            "denied",
            "Not yet.\n\nprompt.md:2: too long\nzebra.nix:1: why?",
        )

        second = await propose(hive, {"prompt.md": "Bake bread.\n"}, "shorter")
        decision = {"commit": second["commit"], "expect": "built"}
        page = page_of(await web.post("/decisions/agents/ann/2/approve", decision))
        deployed = await until(hive, "/v1/proposals/ann/2", "deployed")
        assert deployed["approvals"] == ["person:pia"]
        assert "deployed" in (await web.get(page)).text
        await _history_and_edit(hive, web)
        # What belongs to somebody else is there for nobody, as if it had never been.
        await hive.ask("POST", "/v1/agents/ann/owner", {"owner": "vera"})
        for path in ("/decisions/agents/ann/2", "/agents/ann/history", "/agents/ann/history/0", "/agents/ann/edit"):
            hidden, unknown = await web.get(path), await web.get(path.replace("ann", "anx"))
            assert (hidden.status, hidden.text) == (404, unknown.text.replace("anx", "ann"))
        assert "ann/" not in (await web.get("/decisions")).text


async def _history_and_edit(hive: Daemon, web: ServedDashboard) -> None:
    history = await web.get("/agents/ann/history")
    assert "/agents/ann/history/0" in history.text and "shorter" in history.text
    since = await web.get("/agents/ann/history/0")
    assert "Bake bread." in since.text
    late = await web.post("/agents/ann/history/0/rollback", {"current": "1", "note": "worse"})
    assert late.status == 409 and "worse" in late.text
    page = page_of(await web.post("/agents/ann/history/0/rollback", {"current": "2", "note": "worse"}))
    assert page == "/decisions/agents/ann/3"
    await until(hive, "/v1/proposals/ann/3", "deployed")

    form = await web.get("/agents/ann/edit")
    base = re.findall(r'name="base" value="([0-9a-f]{40})"', form.text)[0]
    edit = {"base": base, "note": "my own", "file prompt.md": "Rest.\r\nThen bake.\r\n"}
    nothing = await web.post("/agents/ann/edit", {"base": base, "note": "my own"})
    assert nothing.status == 409 and "no file was changed" in nothing.text
    conflict = await web.post("/agents/ann/edit", {**edit, "base": "0" * 40})
    assert conflict.status == 409 and "Then bake." in conflict.text and "As it is deployed now" in conflict.text
    page = page_of(await web.post("/agents/ann/edit", edit))
    proposed = await until(hive, "/v1/proposals/ann/4", "built")
    assert [file["path"] for file in proposed["files"]] == ["prompt.md"] and "+Then bake.\n" in proposed["diff"]
    own = await web.get(page)
    assert "Withdraw" in own.text and 'id="approve"' not in own.text
    await web.post(f"{page}/withdraw", {"note": "no"})
    assert (await hive.ask("GET", "/v1/proposals/ann/4"))["state"] == "withdrawn"


async def test_decisions_on_work(hive: Daemon, tmp_path: Path) -> None:
    """A person reads work, comments on a line, and approves it; it lands, and the repository's page shows it."""
    upstream = tmp_path / "web"
    upstream.mkdir()
    git(upstream, "init", "--quiet", "--initial-branch=main")
    commit(upstream, {"app.py": "one\n"})
    command = ("-m", "hive_core", "--socket", str(hive.host_socket), "repo", "add", "web", str(upstream))
    added = await asyncio.create_subprocess_exec(sys.executable, *command)
    assert await added.wait() == 0
    await hive.ask("POST", "/v1/agents", {"name": "wim", "config": {"repos": ["web"]}, "start": False})
    clone = hive.state_dir / "agents/wim/code/web"
    git(tmp_path, "clone", "--quiet", str(upstream), str(clone))
    sha = commit(clone, {"app.py": "one\n" + HOSTILE})
    work = {"repo": "web", "commit": sha, "title": "Mend <i>it</i>", "description": "because"}
    await hive.ask("POST", "/v1/work", work, agent="wim")
    await until(hive, "/v1/work/web/1", "built")
    async with signed_in(hive, "pia", "operator") as web:
        assert "Mend &lt;i&gt;it&lt;/i&gt;" in (await web.get("/decisions")).text
        shown = await web.get("/decisions/work/web/1")
        assert "&lt;/td&gt;&lt;script&gt;" in shown.text
        assert "Mend &lt;i&gt;it&lt;/i&gt;" in (await web.get("/repositories/web")).text
        await web.post("/decisions/work/web/1/comment", {"note": "", "line new 2 0 app.py": "why so?"})
        assert "app.py:2" in (await web.get("/decisions/work/web/1")).text
        await web.post("/decisions/work/web/1/approve", {"commit": sha, "expect": "built", "note": "good"})
        landed = await until(hive, "/v1/work/web/1", "deployed")
        assert landed["landed"] == sha
        assert "landed" in (await web.get("/repositories/web")).text
        assert "/repositories/web" in (await web.get("/repositories")).text


@needs_bubblewrap
async def test_decisions_on_access(hive_home: Path) -> None:
    """A person grants a request for a host with a duration of their own, and denies one with a note only."""
    settings = {"sandbox": "bubblewrap", "unsealed": False}
    async with running(Daemon(hive_home, settings=settings)) as hive, dashboard(hive.host_socket) as web:
        await hive.ask("POST", "/v1/agents", {"name": "sue", "start": False})
        for host in ("one.example", "two.example"):
            await hive.ask("POST", "/v1/network/requests", {"host": host, "why": "<u>need</u>"}, agent="sue")
        shown = await web.get("/decisions/access")
        assert shown.text.count("&lt;u&gt;need&lt;/u&gt;") == 2
        page_of(await web.post("/decisions/access/1/approve", {"hours": "8", "note": "fine"}))
        refused = await web.post("/decisions/access/2/deny", {"hours": "", "note": ""})
        assert refused.status == 400 and "two.example" in refused.text
        page_of(await web.post("/decisions/access/2/deny", {"hours": "", "note": "no"}))
        found = (await hive.ask("GET", "/v1/network/requests?state=all"))["requests"]
    assert [(each["state"], each["note"]) for each in found] == [("approved", "fine"), ("denied", "no")]
