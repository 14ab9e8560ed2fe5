"""Checks of a tree by the runner, with the real local runtime, or with one that only tells what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.runtimes.base import Runtime
from hive_core.runtimes.checks.order import CheckRun, WayOut
from hive_core.runtimes.local.runtime import LocalRuntime
from hive_core.settings import Checks
from hive_core.work.checks.runner import CheckOrder, CheckRunner
from tests.unit.core.runtimes.local.local_hive import need
from tests.unit.core.work.work_repository import WorkRepository

FILE, PROGRAM = "100644", "100755"


@dataclass(frozen=True)
class Command:
    name: str
    argv: tuple[str, ...]
    timeout_seconds: float = 30


@dataclass
class FakeRuntime:
    """Passes every check but those of `fails`, and says what files it saw."""

    fails: dict[str, str] = field(default_factory=dict)
    runs: list[CheckRun] = field(default_factory=list)
    files: list[list[str]] = field(default_factory=list)
    error: HiveError | None = None
    blocked: asyncio.Event | None = None
    most_at_once: int = 0
    now: int = 0

    async def run_check(self, run: CheckRun, say: Callable[[str], None]) -> str:
        self.runs.append(run)
        self.files.append(sorted(path.name for path in run.files.iterdir()))
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            if self.blocked is not None:
                await self.blocked.wait()
            if self.error is not None:
                raise self.error
            return self.fails.get(run.argv[0], "")
        finally:
            self.now -= 1


class Scene:
    def __init__(self, path: Path, runtime: FakeRuntime) -> None:
        self.layout = Layout(path / "state", path / "run")
        self.runtime = runtime
        self.runner = CheckRunner(cast(Runtime, runtime), self.layout, Checks())
        self.repository = WorkRepository(path / "state/work/web.git")
        self.tree = self.repository.tree({"a.txt": (FILE, "a"), "b": (PROGRAM, "b")})
        self.lines: list[str] = []

    def order(
        self, *names: str, tree: str = "", closure: str = "ada/x", agent: str = "ada", work: str = "web/1"
    ) -> CheckOrder:
        commands = [Command(name, (name, "arg")) for name in names]
        return CheckOrder(self.repository.path, tree or self.tree, closure, agent, commands, work)

    def left(self) -> list[Path]:
        return list(self.layout.scratch.iterdir()) if self.layout.scratch.exists() else []


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, FakeRuntime())


async def test_checks_run_one_after_the_other_until_one_fails(scene: Scene) -> None:
    """Each check gets fresh files of the tree, the first failure ends the order and is told, nothing stays behind."""
    scene.runtime.fails["test"] = "exit code 1"
    outcome = await scene.runner.run(scene.order("lint", "test", "never"), scene.lines.append)
    assert (outcome.passed, outcome.failed, outcome.reason) == (False, "test", "exit code 1")
    assert [run.argv[0] for run in scene.runtime.runs] == ["lint", "test"]
    assert scene.runtime.files == [["a.txt", "b"]] * 2
    first, second = scene.runtime.runs
    assert (first.repository, first.working_directory, first.limits.seconds) == ("web", "/code/web", 30)
    assert first.directory != second.directory
    assert scene.lines[0] == "check lint: lint arg"
    assert scene.lines[-1] == "check test failed: exit code 1"
    assert scene.left() == []


async def test_a_pass_is_remembered_and_a_failure_is_not(scene: Scene) -> None:
    """What passed is not run again on the same files and programs; another tree, closure or a failed check is."""
    scene.runtime.fails["test"] = "exit code 1"
    for _ in range(2):
        await scene.runner.run(scene.order("lint", "test"), scene.lines.append)
    assert [run.argv[0] for run in scene.runtime.runs] == ["lint", "test", "test"]
    assert "check lint: passed before, on the same files with the same programs" in scene.lines
    other = scene.repository.tree({"a.txt": (FILE, "b")})
    closure = scene.order("lint", closure="ada/y", work="web/2")
    for order in (scene.order("lint", tree=other), closure, scene.order("lint")):
        assert (await scene.runner.run(order, scene.lines.append)).passed
    assert [run.argv[0] for run in scene.runtime.runs][3:] == ["lint", "lint"]


async def test_a_pass_of_the_same_work_counts_with_any_programs(scene: Scene) -> None:
    """At its landing, work needs no check again that it has passed, also if its agent has other programs or is gone."""
    await scene.runner.run(scene.order("lint"), scene.lines.append)
    for closure in ("ada/y", ""):
        assert (await scene.runner.run(scene.order("lint", closure=closure), scene.lines.append)).passed
    assert len(scene.runtime.runs) == 1
    missing = await scene.runner.run(scene.order("lint", "new", closure=""), scene.lines.append)
    assert (missing.failed, missing.reason) == ("new", "it runs with the programs of ada, which is gone")


@dataclass
class FakeAccess:
    """Tells what access was asked for; `open` says that a host was refused."""

    opened: list[tuple[str, Sequence[str]]] = field(default_factory=list)
    closed: int = 0
    way_out: WayOut = field(default_factory=lambda: WayOut(3128, lambda _: None))

    async def open(self, label: str, hosts: Sequence[str], say: Callable[[str], None]) -> FakeAccess:
        self.opened.append((label, hosts))
        say("refused: evil.example:443")
        return self

    async def close(self) -> None:
        self.closed += 1


async def test_a_check_reaches_the_hosts_of_its_repository(scene: Scene) -> None:
    """Only a check with rules has a way out, which ends with it; refusals are lines of the hive in its log."""
    access = FakeAccess()
    runner = CheckRunner(cast(Runtime, scene.runtime), scene.layout, Checks(), access)
    order = replace(scene.order("test"), hosts=["pypi"])
    scene.runtime.fails["test"] = "exit code 1"
    assert not (await runner.run(order, scene.lines.append)).passed
    [run] = scene.runtime.runs
    assert (run.way_out, access.opened, access.closed) == (access.way_out, [(run.label, ["pypi"])], 1)
    assert "refused: evil.example:443" in scene.lines
    await runner.run(scene.order("lint"), scene.lines.append)
    assert (scene.runtime.runs[-1].way_out, len(access.opened)) == (None, 1)


async def test_a_pass_with_other_hosts_does_not_count(scene: Scene) -> None:
    """A check that has passed when it reached other hosts is run again."""
    runner = CheckRunner(cast(Runtime, scene.runtime), scene.layout, Checks(), FakeAccess())
    for hosts, runs in ((["pypi", "npm"], 1), (["npm", "pypi"], 1), (["pypi"], 2), ([], 3)):
        assert (await runner.run(replace(scene.order("test"), hosts=hosts), scene.lines.append)).passed
        assert len(scene.runtime.runs) == runs


async def test_one_agent_leaves_a_place_for_the_checks_of_others(scene: Scene) -> None:
    """Checks of an agent's many proposals do not take the last place, so that another agent's are run meanwhile."""
    scene.runtime.blocked = asyncio.Event()
    trees = [scene.repository.tree({"a": (FILE, str(number))}) for number in range(4)]
    orders = [scene.order("test", tree=tree) for tree in trees[:3]] + [scene.order("bobs", tree=trees[3], agent="bob")]
    tasks = [asyncio.ensure_future(scene.runner.run(order, scene.lines.append)) for order in orders]
    while len(scene.runtime.runs) < 2:
        await asyncio.sleep(0.005)
    assert sorted(run.agent for run in scene.runtime.runs) == ["ada", "bob"]
    scene.runtime.blocked.set()
    assert all(outcome.passed for outcome in await asyncio.gather(*tasks))


async def test_without_checks_everything_passes(scene: Scene) -> None:
    """A repository without checks passes at once."""
    assert (await scene.runner.run(scene.order(), scene.lines.append)).passed
    assert (scene.lines, scene.runtime.runs) == ([], [])


async def test_a_landing_waits_for_no_other_work_of_its_agent(scene: Scene) -> None:
    """Checks before a landing, for which others wait, come before those of the same agent's other proposals."""
    scene.runtime.blocked = asyncio.Event()
    trees = [scene.repository.tree({"a": (FILE, str(number))}) for number in range(4)]
    orders = [scene.order("test", tree=tree) for tree in trees[:3]]
    orders.append(replace(scene.order("landing", tree=trees[3]), landing=True))
    tasks = [asyncio.ensure_future(scene.runner.run(order, scene.lines.append)) for order in orders]
    while len(scene.runtime.runs) < 2:
        await asyncio.sleep(0.005)
    assert sorted(run.argv[0] for run in scene.runtime.runs) == ["landing", "test"]
    scene.runtime.blocked.set()
    assert all(outcome.passed for outcome in await asyncio.gather(*tasks))


async def test_a_tree_that_cannot_be_written_fails_its_check(scene: Scene) -> None:
    """A tree that no file system holds fails the check with the reason, and nothing stays behind."""
    tree = scene.repository.tree({"n" * 300: (FILE, "x")})
    outcome = await scene.runner.run(scene.order("test", tree=tree), scene.lines.append)
    assert (outcome.passed, outcome.failed) == (False, "test")
    assert outcome.reason.startswith("the files of the proposal cannot be written for it: 'nnn")
    assert (scene.runtime.runs, scene.left()) == ([], [])


async def test_an_error_of_the_hive_is_no_failure(scene: Scene) -> None:
    """Where no check can be run now, the error says so, and no check has failed."""
    scene.runtime.error = HiveError("cannot_check", "not here")
    with pytest.raises(HiveError, match="not here"):
        await scene.runner.run(scene.order("test"), scene.lines.append)
    scene.runtime.error = None
    with pytest.raises(HiveError) as raised:
        await scene.runner.run(scene.order("test", tree="1" * 40), scene.lines.append)
    assert raised.value.code == "git_failed"
    assert scene.left() == []


async def test_few_checks_run_at_a_time(scene: Scene) -> None:
    """Checks of many proposals wait for each other beyond the limit of the settings, and a cancellation leaves none."""
    scene.runtime.blocked = asyncio.Event()
    trees = [scene.repository.tree({"a": (FILE, str(number))}) for number in range(5)]
    orders = [scene.order("test", tree=tree, agent=f"a{number}") for number, tree in enumerate(trees)]
    tasks = [asyncio.ensure_future(scene.runner.run(order, scene.lines.append)) for order in orders]
    while len(scene.runtime.runs) < 2:
        await asyncio.sleep(0.005)
    tasks[0].cancel()
    scene.runtime.blocked.set()
    await asyncio.wait(tasks)
    assert scene.runtime.most_at_once == 2
    assert [task.cancelled() for task in tasks] == [True, False, False, False, False]
    assert scene.left() == []


@asynccontextmanager
async def real_runner(path: Path) -> AsyncIterator[tuple[CheckRunner, Layout]]:
    need("bubblewrap")
    layout = Layout(path / "state", path / "run")
    runtime = await LocalRuntime.open("bubblewrap", closures=layout.closures, scratch=layout.scratch)
    try:
        yield CheckRunner(runtime, layout, Checks(memory="256M", disk="64M", tasks=64)), layout
    finally:
        await runtime.close()


async def test_a_real_check_leaves_nothing(tmp_path: Path) -> None:
    """A check that nests directories, takes its own rights away and leaves processes is removed all the same."""
    async with real_runner(tmp_path) as (runner, layout):
        closure = layout.closures / "ada" / ("0" * 40)
        closure.mkdir(parents=True)
        repository = WorkRepository(layout.state_dir / "work/web.git")
        script = """#!/bin/sh
            ln -s /etc link; i=0
            while [ $i -lt 240 ]; do mkdir d; cd d; i=$((i+1)); done
            mkdir closed; touch closed/x; chmod 000 closed; (setsid sleep 1000 &)
            cat /code/web/greeting
            """
        tree = repository.tree({"test": (PROGRAM, script), "greeting": (FILE, "hello\n")})
        lines: list[str] = []
        order = CheckOrder(repository.path, tree, f"ada/{'0' * 40}", "ada", [Command("tests", ("./test",))], "web/1")
        outcome = await runner.run(order, lines.append)
        assert (outcome.passed, outcome.reason) == (True, "")
        assert lines[:2] == ["check tests: ./test", "| hello"]
        with suppress(FileNotFoundError):
            assert [path for path in layout.scratch.iterdir() if path.name.startswith("check-")] == []
        gone = CheckOrder(repository.path, tree, f"ada/{'1' * 40}", "ada", [Command("tests", ("./test",))], "web/2")
        with pytest.raises(HiveError) as refused:
            await runner.run(gone, lines.append)
        assert refused.value.code == "closure_gone"
