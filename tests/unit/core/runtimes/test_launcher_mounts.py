"""What agents and the manager see of the gate, and that they can use git on it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import reduce
from operator import or_
from pathlib import Path

import pytest

from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.layout import Layout, closure_path
from hive_core.runtimes.base import AgentSpec
from hive_core.runtimes.launcher import PlainLauncher
from tests.helpers.git_repos import FILES, order
from tests.unit.core.runtimes.local.local_hive import POLITE, LocalHive, Mode, make_spec, opened
from tests.unit.core.runtimes.local.test_runtime import MODES

COMMIT = """
import json, os, pathlib, subprocess
def git(*line):
    done = subprocess.run(["git", *line], capture_output=True, text=True)
    return done.stdout + done.stderr
config = os.environ["HIVE_AGENT_CONFIG"]
pathlib.Path(config, "prompt.md").write_text("Changed.\\n")
git("-C", config, "commit", "-qam", "Change the prompt")
print(json.dumps({
    "last": git("-C", config, "log", "-1", "--format=%an <%ae> %cn <%ce> %s").strip(),
    "applied": git("-C", os.environ["HIVE_AGENT_APPLIED"] + "/ada.git", "log", "--format=%s", "main").strip(),
    "problem": git("-C", config, "status", "--short"),
}), flush=True)
"""
SEE = """
import json, os, pathlib
def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return os.strerror(error.errno)
def write(path):
    path = pathlib.Path(path)
    return attempt(lambda: (path.chmod(0o777), (path / "made").write_text("x"))[1])
top = lambda path: sorted(os.listdir(path)) if os.path.isdir(path) else None
print(json.dumps({
    "deployed": top("/deployed"), "applied": top("/applied"), "agents": top("/agents"),
    "writes": {path: write(path) for path in ["/deployed", "/applied", "/applied/ada.git"]},
    "overwrite": attempt(lambda: pathlib.Path("/deployed/agent.nix").chmod(0o777)),
}), flush=True)
"""


async def built(hive: LocalHive, name: str = "ada") -> AgentSpec:
    """An agent as the gate starts it: with a closure, its repository, and a clone of that to change."""
    wanted = order(hive.layout, FILES, name)
    closure = await hive.runtime.build(wanted, lambda _: None)
    spec = hive.spec(name)
    spec.paths.config.rmdir()
    with Repository.open(wanted.repository) as repository:
        repository.update([RefChange("refs/heads/main", wanted.commit, None)])
        repository.clone_to(spec.paths.config)
    return replace(spec, closure=closure, deployment=3, applied=wanted.repository)


def modes(closure: Path) -> int:
    """Who may do what with a closure and its files, in one number."""
    return reduce(or_, (path.stat().st_mode & 0o777 for path in [closure, *closure.iterdir()]))


@MODES
async def test_git_works_for_an_agent(mode: Mode, tmp_path: Path) -> None:
    """An agent commits in its own repository under its own name, and reads what is applied, without any setting up."""
    async with opened(mode, tmp_path, COMMIT + POLITE) as hive:
        await hive.runtime.start(await built(hive))
        seen = json.loads(await hive.line('{"last"'))
    assert seen == {
        "last": "ada <ada@hive> ada <ada@hive> Change the prompt",
        "applied": "A change",
        "problem": "",
    }


async def test_an_agent_sees_its_own_part_of_the_gate(tmp_path: Path) -> None:
    """What is in force and an agent's own applied repository are there and cannot be changed; no other's is."""
    async with opened("bubblewrap", tmp_path, SEE + POLITE) as hive:
        await built(hive, "bob")
        spec = await built(hive)
        await hive.runtime.start(spec)
        seen = json.loads(await hive.line('{"deployed"'))
    assert (seen["deployed"], seen["applied"], seen["agents"]) == (sorted(FILES), ["ada.git"], None)
    assert set(seen["writes"].values()) == {seen["overwrite"]} == {"Read-only file system"}
    assert not modes(closure_path(hive.layout.closures, spec.closure)) & 0o022


async def test_the_manager_sees_every_applied_repository(tmp_path: Path) -> None:
    """The manager reads every applied repository and changes none; nobody's own repository is there."""
    async with opened("bubblewrap", tmp_path, SEE + POLITE) as hive:
        await built(hive)
        await built(hive, "bob")
        manager = replace(
            hive.spec("hm1nd"),
            kind="manager",
            applied=hive.layout.applied,
        )
        await hive.runtime.start(manager)
        seen = json.loads(await hive.line('{"deployed"', "hm1nd"))
    assert seen["deployed"] is None
    assert {"ada.git", "bob.git"} <= set(seen["applied"])
    assert seen["agents"] is None
    assert seen["writes"]["/applied/ada.git"] == "Read-only file system"


@pytest.mark.parametrize("kind", ["agent", "manager"])
async def test_plain_mode_names_the_gates_directories(tmp_path: Path, kind: str) -> None:
    """Without mounts the same variables name the places on this machine."""
    layout = Layout(tmp_path, tmp_path / "run")
    spec = make_spec(layout, "ada", {})
    spec = replace(spec, closure="/closures/ada/x", deployment=7, applied=layout.applied_repository("ada"))
    if kind == "manager":
        spec = replace(spec, kind="manager", applied=layout.applied)
    child = await PlainLauncher(lambda _: ["env"])(spec)
    try:
        await child.wait()
        seen = dict(line.split("=", 1) for line in os.read(child.output, 65536).decode().splitlines())
    finally:
        child.close()
    assert seen["HIVE_AGENT_DEPLOYED"] == "/closures/ada/x"
    assert seen["HIVE_AGENT_DEPLOYMENT"] == "7"
    assert seen["HIVE_AGENT_APPLIED"] == str(layout.applied)
