"""Checks with hosts under a real daemon, which starts its proxy for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, running
from tests.integration.access.caller import Caller
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap

pytestmark = pytest.mark.skipif(bool(why_no_bubblewrap()), reason=why_no_bubblewrap() or "bubblewrap works")

SECONDS = 60.0
CHECK = "access: sh -c 'curl -s http://nothing.example.com/; test -n \"$https_proxy\"'"


@pytest.mark.thorough
async def test_refusals_of_a_check_are_in_its_log(hive_home: Path, tmp_path: Path) -> None:
    """A check reaches the proxy by the rules of its repository, and what it was refused is in the log of the work."""
    source = tmp_path / "source"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "source")
    (source / "a").write_text("one")
    git(source, "add", "-A")
    git(source, "commit", "--quiet", "-m", "first")
    async with running(Daemon(hive_home, settings={"sandbox": "bubblewrap"})) as daemon:
        caller = Caller(daemon)

        async def operate(*arguments: str) -> str:
            ended = await caller.run(*arguments)
            assert ended.code == 0, ended
            return ended.out.decode()

        await operate("repo", "add", "web", str(source), "--check", CHECK, "--check-host", "something.example.com")
        config = {"backend": "scripted", "network": "sealed", "repos": ["web"]}
        await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": config})
        await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        script = "cd /code/web && echo two > a && git commit --quiet -am second && git rev-parse HEAD"
        commit = (await operate("exec", "ada", "--", "sh", "-c", script)).strip()
        work = {"repo": "web", "commit": commit, "title": "Second"}
        await daemon.ask("POST", "/v1/work", work, agent="ada")
        async with asyncio.timeout(SECONDS):
            while "built" not in (shown := await operate("work", "show", "web/1", "--json")):
                assert '"failed"' not in shown, await operate("work", "log", "web/1")
                await asyncio.sleep(0.1)
        log = await operate("work", "log", "web/1")
        assert "| hyperhive: nothing.example.com is not among the hosts" in log
        assert 'refused: "nothing.example.com:80": no rule allows it' in log
