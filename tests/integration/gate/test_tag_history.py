"""What an applied repository tells a person with nothing but git, after proposals with every kind of end."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, Json, running
from tests.integration.demo.shown_outputs import ROOT, shown_outputs

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEEN = "I have read the diff."
FAKE_NIX = """#!/bin/sh
# Refuses the one file of the story that is not Nix, as Nix does; the tests of the check use the real one.
grep -q 'postgresql = $' "$2" || exit 0
printf 'error: syntax error, unexpected end of file\\n\\n       at %s:2:1:\\n' "$2" >&2
exit 1
"""


class Story:
    """ada's first five proposals: two deployed, one that does not build, one denied, one rollback."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.config = daemon.state_dir / "agents" / "ada" / "config"
        self.applied = daemon.state_dir / "applied" / "ada.git"
        self.log = ""

    async def happen(self) -> None:
        """All of it, one after another. `log` is `main`'s before the rollback."""
        daemon = self.daemon
        await daemon.spawn("hm1nd", start=False)
        config = {"backend": "scripted", "memory_max": "512M"}
        await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": config, "prompt": "You write tests."})
        await daemon.agent_until("ada", lambda status: status["state"] == "idle")
        await self._propose("Tests need Python", {"agent.nix": "{ pkgs, ... }: { packages = [ pkgs.python3 ]; }\n"})
        await self._decide(1, "approve", SEEN)
        await self._propose("More memory for the large suites", {"agent.toml": self._toml("2G")})
        await self._decide(2, "approve", "The host has enough.")
        await self._propose("A database to test with", {"agent.nix": "{ pkgs, ... }: { services.postgresql = \n"})
        await self._until(3, "failed")
        await self._propose("All of the memory, to be quick", {"agent.toml": self._toml("64G")})
        await self._decide(4, "deny", "64 GiB is more than the host has.\nAsk for what you need.")
        self.log = self.git("log", "--oneline", "--decorate", "main")
        body = {"note": "the suites swap with 2 GiB too", "number": 1}
        await daemon.ask("POST", "/v1/agents/ada/rollback", body)
        await self._until(5, "deployed")

    def git(self, *arguments: str) -> str:
        """What plain git prints in the applied repository."""
        return git(self.daemon.state_dir, "-C", "applied/ada.git", *arguments)

    def _toml(self, memory: str) -> str:
        text = git(self.applied, "show", "main:agent.toml") + "\n"
        return re.sub('memory_max = ".*"', f'memory_max = "{memory}"', text)

    async def _propose(self, note: str, files: Mapping[str, str]) -> None:
        git(self.config, "fetch", "-q", str(self.applied), "main")
        git(self.config, "reset", "-q", "--hard", "FETCH_HEAD")
        for name, text in files.items():
            (self.config / name).write_text(text)
        git(self.config, "commit", "-q", "-a", "-m", note, "--author", "ada <ada@hive>")
        body = {"commit": git(self.config, "rev-parse", "HEAD"), "note": note}
        await self.daemon.ask("POST", "/v1/proposals", body, agent="ada")

    async def _decide(self, number: int, verb: str, note: str) -> None:
        await self._until(number, "built")
        body = {"expect": "built", "note": note}
        await self.daemon.ask("POST", f"/v1/proposals/ada/{number}/{verb}", body, agent="hm1nd")
        await self._until(number, "deployed", "denied")

    async def _until(self, number: int, *states: str) -> Json:
        path = f"/v1/proposals/ada/{number}"
        found = await self.daemon.ask("GET", path)
        while found["state"] not in states:
            assert found["state"] not in ("failed", "denied", "withdrawn", "deployed"), found
            found = await self.daemon.ask("GET", f"{path}?unlike={found['state']}&wait_seconds=60")
        return found


def place_nix(directory: Path) -> str:
    """Put the fake program there; returns a PATH that begins with it."""
    directory.mkdir()
    program = directory / "nix-instantiate"
    program.write_text(FAKE_NIX)
    program.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story() -> AsyncIterator[Story]:
    """It has happened, with a real harness."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with running(Daemon(Path(home), environment={"PATH": place_nix(Path(home, "bin"))})) as daemon:
            found = Story(daemon)
            await found.happen()
            yield found


def lines(text: str) -> list[str]:
    """What stands on each line, without ids, times and the hive's own directory, which differ from run to run."""
    text = re.sub(r"\b[0-9a-f]{40}\b", "SHA", text)
    text = re.sub(r"/\S*/closures/", "CLOSURES/", text)
    return re.sub(r"\b[0-9a-f]{7,12}\b", "SHA", re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", text)).splitlines()


async def test_the_log_of_main(story: Story) -> None:
    """What was deployed, the newest first, each commit with all that was said about it; then it goes back."""
    newest, middle, oldest = story.log.splitlines()
    assert newest.endswith(") More memory for the large suites")
    assert middle.endswith(") Tests need Python")
    assert oldest.endswith(") Configuration of ada, as spawned")
    for line, number in ((newest, 2), (middle, 1), (oldest, 0)):
        for word in ("proposal", "building", "built", "approved", "deployed"):
            assert f"tag: {word}/{number}" in line
    assert "HEAD -> main" in newest
    newest, oldest = story.git("log", "--oneline", "--decorate", "main").splitlines()
    assert newest.endswith(") Tests need Python")
    assert "HEAD -> main" in newest
    assert "tag: deployed/1" in newest
    assert "tag: deployed/5" in newest
    only = "--decorate-refs=refs/tags/deployed/*"
    newest, _ = story.git("log", "--oneline", "--decorate", only, "main").splitlines()
    assert newest.partition(" ")[2] == "(tag: deployed/5, tag: deployed/1) Tests need Python"
    deployments = story.git("tag", "-n", "--sort=-version:refname", "--list", "deployed/*").splitlines()
    assert [re.split(" +", line, maxsplit=1) for line in deployments] == [
        ["deployed/5", "deployed: ada/5 (rollback)"],
        ["deployed/2", "deployed: ada/2"],
        ["deployed/1", "deployed: ada/1"],
        ["deployed/0", "deployed: ada/0 (spawn)"],
    ]


async def test_a_failed_build(story: Story) -> None:
    """`git show failed/3`: what was wanted, why it failed with file and line, the log's end, and the change."""
    shown = lines(story.git("show", "failed/3"))
    assert shown[:2] == ["tag failed/3", "Tagger: system <system@hive>"]
    why = "agent.nix, line 2, column 1: syntax error, unexpected end of file"
    assert shown[3:16] == [
        "",
        "failed: ada/3",
        "",
        "ada proposed to change the configuration of ada:",
        "> A database to test with",
        "",
        "Failed:",
        f"> {why}",
        "",
        "The end of the build's log:",
        "> TIME ada: commit SHA, tree SHA",
        f"> TIME failed: {why}",
        "",
    ]
    assert "+{ pkgs, ... }: { services.postgresql = " in story.git("show", "failed/3") + " "
    assert "commit SHA" in shown


async def test_a_denial(story: Story) -> None:
    """`git show denied/4`: who denied it and why, in their words, and the change that was denied."""
    shown = lines(story.git("show", "denied/4"))
    assert shown[:2] == ["tag denied/4", "Tagger: hm1nd <hm1nd@hive>"]
    assert shown[3:12] == [
        "",
        "denied: ada/4 by hm1nd",
        "",
        "ada proposed to change the configuration of ada:",
        "> All of the memory, to be quick",
        "",
        "Denied by hm1nd:",
        "> 64 GiB is more than the host has.",
        "> Ask for what you need.",
    ]
    assert {'-memory_max = "2G"', '+memory_max = "64G"', "Author: ada <ada@hive>"} <= set(shown)
    built = lines(story.git("show", "--no-patch", "built/4"))
    assert "built: ada/4: waits for the manager" in built
    assert "- memory_max: 2G -> 64G (raised)" in built


async def test_a_rollback(story: Story) -> None:
    """`git show deployed/5`: who wanted which deployment back, and why."""
    shown = lines(story.git("show", "--no-patch", "deployed/5"))
    assert "operator:" in shown[6]
    assert shown[6].endswith(" proposed to deploy again what ada ran on before:")
    assert shown[7] == "> the suites swap with 2 GiB too"
    assert "- as deployed/1" in shown


async def test_the_page_shows_it(story: Story) -> None:
    """The page about the gate shows of this story the text that git prints."""
    found = shown_outputs(ROOT / "docs/gate.md")
    assert len(found) > 5
    # The first one is from before the rollback.
    printed = [story.log] + [story.git(*shlex.split(shown.command)[3:]) for shown in found[1:]]
    differences = [shown.differs(text) for shown, text in zip(found, printed, strict=True)]
    assert not any(differences), "\n\n".join(differences)


async def test_for_programs(story: Story) -> None:
    """git itself reads the block of values at the end of a tag."""
    form = "--format=%(contents:trailers:key=State,valueonly,separator=)"
    words = set(story.git("for-each-ref", form, "refs/tags/failed", "refs/tags/denied").split())
    assert words == {"failed", "denied"}


async def test_the_repository_is_sound(story: Story) -> None:
    """`git fsck --strict` finds nothing; what runs is the content of the newest deployment."""
    assert story.git("fsck", "--strict", "--no-dangling") == ""
    status = await story.daemon.agent_until("ada", lambda status: status["lifecycle"] == "running")
    tree = story.git("rev-parse", "deployed/5^{tree}")
    closure = story.daemon.state_dir / "closures" / "ada" / tree
    assert status["deployment"] == 5
    assert {path.name for path in closure.iterdir()} == {"agent.nix", "agent.toml", "prompt.md"}
    for path in closure.iterdir():
        assert path.read_text().strip() == story.git("show", f"main:{path.name}")
