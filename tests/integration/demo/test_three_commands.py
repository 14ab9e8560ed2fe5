"""The README's three commands for a repository of one's own, typed as they stand there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_messages_api import Blocks, Text, model_server
from tests.helpers.git_repos import git
from tests.integration.backends.claude_code import needs_claude
from tests.integration.demo.mending_model import mend
from tests.integration.demo.run_demo import ROOT, environment

SECONDS = 240.0
_NEEDS = pytest.mark.skipif(not (shutil.which("make") and shutil.which("bwrap")), reason="make or bwrap is missing")


def commands() -> list[str]:
    """The three commands of the README."""
    text = (ROOT / "README.md").read_text()
    part = text[text.index("## With Claude Code and a repository of yours") : text.index("## How it works")]
    found = re.findall(r"^\$ (hive-c0re .*)$", part, re.MULTILINE)
    assert [line.split()[1] for line in found] == ["serve", "repo", "run"]
    return found


def readme_relay() -> str:
    """The settings of the relay that the README has, in JSON, but for the home directory."""
    (found,) = re.findall(r'^\$ export HIVE_RELAY="(.*?)"$', (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return str(found).replace('\\"', '"').replace("\\\n", "")


def repository(directory: Path) -> None:
    """Make a repository with a failing test, run by `make test`."""
    shutil.copytree(ROOT / "docs/demo/repository", directory, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "Makefile").write_text("test:\n\tpython3 -m unittest\n")
    git(directory, "init", "--quiet", "--initial-branch=main")
    git(directory, "add", ".")
    git(directory, "commit", "--quiet", "--message=Prices")


@contextmanager
def serving(command: str, env: dict[str, str]) -> Iterator[None]:
    """The daemon, started by the README's command, until the end."""
    daemon = subprocess.Popen(
        ["sh", "-c", f"exec {command} --config {os.devnull}"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert daemon.stdout is not None
    try:
        for line in daemon.stdout:
            if b'"ready"' in line:
                break
        yield
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)


async def typed(command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, as a person does in another terminal."""
    return await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", command],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def environment_of(place: Path, url: str) -> dict[str, str]:
    """The environment that the README sets, with the model at `url`."""
    keys = place / "hive-keys"
    if not keys.exists():
        keys.mkdir(mode=0o700)
        (keys / "anthropic").touch(0o600)
        (keys / "anthropic").write_text("test")
    relay = json.loads(readme_relay().replace("$HOME", str(place)))
    relay["providers"]["anthropic"]["base_url"] = url
    env = environment(place, HIVE_STATE_DIR=str(place / "hive"), HIVE_RELAY=json.dumps(relay))
    return {**env, "PATH": f"{ROOT / '.venv/bin'}:{env['PATH']}"}


@needs_claude
@_NEEDS
@pytest.mark.timeout(SECONDS + 60)
async def test_three_commands_land_work_of_claude_code(place: Path) -> None:
    """Real Claude Code mends a repository by the README's three commands; the command that `run` names lands it.

    Only the model is a stand-in. A second wish that ends without work is told in words, with exit code 1.
    """
    serve, add, run = commands()
    repository(place / "app")

    async def model(request: dict[str, Any]) -> Blocks:
        tools = {tool["name"] for tool in request.get("tools", [])}
        if "mcp__hive__send" not in tools or "Only think" in str(request["messages"]):
            return [Text("I have thought.")]
        return mend(request, "prices.py", "sed -i 's/prices\\[1:\\]/prices/' prices.py && make test")

    async with model_server(model) as server:
        env = environment_of(place, server.url)
        with serving(serve, env):
            added = await typed(add, env)
            assert added.returncode == 0, added.stderr
            done = await typed(run, env)
            assert done.returncode == 0, done.stdout + done.stderr
            assert re.search(r"^> Bash ", done.stderr, re.MULTILINE)
            assert re.search(r"^  changed, .*: prices\.py$", done.stdout, re.MULTILINE)
            assert "Checks: tests: passed" in done.stdout
            (land,) = re.findall(r"^Land it: +(.*)$", done.stdout, re.MULTILINE)
            landed = await typed(land, env)
            assert landed.returncode == 0, landed.stderr
            git(place / "app", "pull", "--quiet", str(place / "hive/repos/app.git"), "main")
            git(place / "app", "log", "--grep=Count every item", "--format=%H")
            assert "for price in prices:" in (place / "app/prices.py").read_text()

            nothing = await typed('hive-c0re run app "Only think about it."', env)
            assert nothing.returncode == 1
            assert "app has ended its turn without submitting work" in nothing.stderr
            assert "I have thought." in nothing.stderr
