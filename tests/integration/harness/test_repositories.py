"""An agent of the `local` runtime with a repository: its mirror, its clone, its turns and its system."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, running
from tests.integration.harness.in_sandbox import needs_bubblewrap, run_inside

LOOK = """
import json, os, subprocess
variables = dict(item.split("=", 1) for item in open("/proc/2/environ").read().split("\\0") if "=" in item)
def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd="/code/web", env=variables, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()
def write(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return os.strerror(error.errno)
    return "written"
print(json.dumps({
    "files": sorted(os.listdir("/code/web")),
    "branch": git("branch", "--show-current"),
    "pull": git("pull", "--quiet"),
    "log": git("log", "--format=%s").split(),
    "push": git("push"),
    "mirror": write("/repos/web.git/made"),
    "packs": sorted(name for name in os.listdir("/code/web/.git/objects/pack")),
    "repositories": sorted(os.listdir("/repos")),
}))
"""


@pytest.fixture
async def hive(hive_home: Path) -> AsyncIterator[Daemon]:
    """A daemon that confines its agents with bubblewrap."""
    async with running(Daemon(hive_home, settings={"sandbox": "bubblewrap"})) as daemon:
        yield daemon


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository of the operator's, which brings an agent.nix."""
    directory = tmp_path / "source"
    (directory / ".hive").mkdir(parents=True)
    git(directory, "init", "--quiet", "--initial-branch=main")
    (directory / ".hive/agent.nix").write_text("{ } # of the repository\n")
    commit(directory, "one.txt")
    return directory


def commit(directory: Path, name: str) -> None:
    (directory / name).write_text("text\n")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", name)


async def operate(hive: Daemon, *arguments: str, code: int = 0) -> str:
    """Run a command of the operator's; returns what it prints, also on stderr."""
    line = [sys.executable, "-m", "hive_core", "--socket", str(hive.host_socket), *arguments]
    done = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@needs_bubblewrap
async def test_an_agent_with_a_repository(hive: Daemon, source: Path) -> None:
    """It finds a clone with borrowed objects, gets what the hive fetches, and can neither write the mirror nor see
    another; its system is what the repository brings.
    """
    for name in ("web", "other"):
        await operate(hive, "repo", "add", name, str(source))
    said = await operate(hive, "spawn", "ada", "--repo", "web")
    assert "agent.nix is .hive/agent.nix of the repository web, from commit" in said
    assert (hive.state_dir / "agents/ada/config/agent.nix").read_text() == "{ } # of the repository\n"
    commit(source, "two.txt")
    await operate(hive, "repo", "fetch", "web")
    seen = await run_inside(hive, "ada", LOOK)
    assert "is read-only, commit and call the tool submit_work instead" in seen.pop("push")
    assert seen == {
        "files": [".git", ".hive", "one.txt"],
        "branch": "ada/work",
        "pull": "",
        "log": ["two.txt", "one.txt"],
        "mirror": "Read-only file system",
        "packs": [],
        "repositories": ["web.git"],
    }
    # What it has there counts as its own: it outlives a restart, and goes with a purge.
    await operate(hive, "restart", "ada")
    assert (hive.state_dir / "agents/ada/code/web/two.txt").exists()
    await operate(hive, "destroy", "ada", "--purge", "--yes")
    assert not (hive.state_dir / "agents/ada").exists()


@needs_bubblewrap
async def test_repositories_and_packages_that_do_not_exist(hive: Daemon, source: Path) -> None:
    """An unknown repository is refused with what to do, and programs that the host lacks are named."""
    refused = await operate(hive, "spawn", "ada", "--repo", "web", code=1)
    assert "agent.toml: repos: no repository web is registered" in refused
    assert "hive-c0re repo add web" in refused
    said = await operate(hive, "spawn", "ada", "--with", "git,no-such-thing", "--no-start")
    assert "not on this host: no-such-thing" in said
    assert "pkgs.no-such-thing" in (hive.state_dir / "agents/ada/config/agent.nix").read_text()
