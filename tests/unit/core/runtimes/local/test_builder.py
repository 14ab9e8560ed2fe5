"""Building, comparing, keeping and activating: what every runtime promises the gate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.layout import closure_path
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.local import builder
from hive_core.runtimes.local.builder import LocalClosures
from hive_core.runtimes.local.config_check import LARGEST, NOT_CHECKED
from tests.helpers.git_repos import FILES, order
from tests.unit.core.runtimes.local.local_hive import POLITE, LocalHive, Mode, opened

Opened = Callable[[], AbstractAsyncContextManager[LocalHive]]
TELL = """
import json, os
where = os.environ["HIVE_AGENT_DEPLOYED"]
print(json.dumps({"deployment": os.environ["HIVE_AGENT_DEPLOYMENT"],
                  "prompt": open(where + "/prompt.md").read()}), flush=True)
"""


@pytest.fixture(params=["bubblewrap", "none"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Every runtime that keeps the contract, with a harness that tells what it was started on."""
    mode: Mode = request.param

    @asynccontextmanager
    async def open_it() -> AsyncIterator[LocalHive]:
        async with opened(mode, tmp_path, TELL + POLITE) as hive:
            yield hive

    return open_it


def ignore(_line: str) -> None:
    pass


async def test_the_same_gives_the_same(runtime: Opened) -> None:
    """A commit builds to a closure that is there, again to the same one, and another content to another one."""
    async with runtime() as hive:
        said: list[str] = []
        one = await hive.runtime.build(order(hive.layout, FILES), said.append)
        assert await hive.runtime.has(one)
        assert said
        assert await hive.runtime.build(order(hive.layout, FILES, when=1_700_000_999), ignore) == one
        other = await hive.runtime.build(order(hive.layout, {**FILES, "prompt.md": b"Else.\n"}), ignore)
        assert other != one


async def test_builds_at_once(runtime: Opened) -> None:
    """The same commit built several times at once gives one closure, and every caller hears of it."""
    async with runtime() as hive:
        wanted = order(hive.layout, FILES)
        built = await asyncio.gather(*(hive.runtime.build(wanted, ignore) for _ in range(4)))
        assert len(set(built)) == 1
        assert await hive.runtime.has(built[0])


DIFFERENCES: Mapping[str, Callable[[Path], object]] = {
    "content": lambda closure: (closure / "agent.nix").write_bytes(b"{ evil = 1; }\n"),
    "mode": lambda closure: (closure / "prompt.md").chmod(0o555),
    "one more": lambda closure: (closure / "more.nix").write_bytes(b""),
    "one less": lambda closure: (closure / "prompt.md").unlink(),
    "empty directory": lambda closure: (closure / "empty").mkdir(),
    "link": lambda closure: (closure / "lib/link").symlink_to("x.nix"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
async def test_the_files_of_a_closure_are_those_of_the_commit(runtime: Opened, difference: str) -> None:
    """A closure that differs from the commit fails the build, also if it was built before."""
    async with runtime() as hive:
        wanted = order(hive.layout, {**FILES, "lib/x.nix": b"1\n"})
        closure = await hive.runtime.build(wanted, ignore)
        assert await hive.runtime.build(wanted, ignore) == closure
        DIFFERENCES[difference](closure_path(hive.layout.closures, closure))
        with pytest.raises(BuildFailed, match="not those of the commit"):
            await hive.runtime.build(wanted, ignore)


async def test_a_configuration_has_no_effect_here(runtime: Opened) -> None:
    """Two orders have the same effect, whatever their files: agent.nix is never executed."""
    async with runtime() as hive:
        changed = order(hive.layout, {**FILES, "agent.nix": b"{ }\n"})
        assert await hive.runtime.effect(order(hive.layout, FILES)) == await hive.runtime.effect(changed)


async def test_agents_do_not_share_closures(runtime: Opened) -> None:
    """What is kept or removed of one agent's is nothing to another's, also if both have the same files."""
    async with runtime() as hive:
        ada = await hive.runtime.build(order(hive.layout, FILES), ignore)
        bob = await hive.runtime.build(order(hive.layout, FILES, "bob"), ignore)
        await hive.runtime.keep("ada", [])
        assert [await hive.runtime.has(closure) for closure in (ada, bob)] == [False, True]


async def test_a_syntax_error_is_told_with_its_place(runtime: Opened) -> None:
    """A build of an agent.nix that is not Nix fails with line, column and the line itself."""
    if shutil.which("nix-instantiate") is None:
        pytest.skip("nix-instantiate is not installed")
    async with runtime() as hive:
        wrong = {**FILES, "agent.nix": b"{ pkgs, ... }:\n{\n  a = 1\n  b = 2;\n}\n"}
        with pytest.raises(BuildFailed) as failed:
            await hive.runtime.build(order(hive.layout, wrong), ignore)
        first, _, line, caret, *_ = str(failed.value).splitlines()
        assert first.startswith("agent.nix, line 4, column 5: ")
        assert line.endswith("b = 2;")
        assert caret.index("^") == line.index("=")


async def test_a_failed_build_leaves_nothing(runtime: Opened) -> None:
    """After a build that failed or was given up nothing lies around, and what is right can be built."""
    async with runtime() as hive:
        with pytest.raises(BuildFailed):
            await hive.runtime.build(order(hive.layout, {**FILES, "agent.nix": b"#" * (LARGEST + 1)}), ignore)
        told = asyncio.Event()
        task = asyncio.create_task(hive.runtime.build(order(hive.layout, FILES), lambda _: told.set()))
        await told.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert list(hive.layout.scratch.iterdir()) == []
        assert await hive.runtime.has(await hive.runtime.build(order(hive.layout, FILES), ignore))


async def test_a_change_that_nothing_has_checked_is_told(runtime: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The changes of a closure are those that git shows; without Nix a changed agent.nix is marked as not checked."""
    async with runtime() as hive:
        old = await hive.runtime.build(order(hive.layout, FILES), ignore)
        other = await hive.runtime.build(order(hive.layout, {**FILES, "prompt.md": b"You help.\n\n"}), ignore)
        changed = await hive.runtime.build(order(hive.layout, {**FILES, "agent.nix": b"{ }\n"}), ignore)
        pairs = [(old, other), (old, changed), (None, old)]
        monkeypatch.setattr(builder, "find_nix", lambda: "/nix-instantiate")
        assert [await hive.runtime.compare(*pair) for pair in pairs] == [[], [], []]
        monkeypatch.setattr(builder, "find_nix", lambda: None)
        assert [await hive.runtime.compare(*pair) for pair in pairs] == [[], [NOT_CHECKED], [NOT_CHECKED]]


async def test_the_agent_runs_on_what_is_activated(runtime: Opened) -> None:
    """Activation replaces what runs; the harness sees the closure and is told the number; the old one can come back."""
    async with runtime() as hive:
        closures = [
            await hive.runtime.build(order(hive.layout, {**FILES, "prompt.md": text}), ignore)
            for text in (b"one", b"two")
        ]
        for number, closure, prompt in ((0, closures[0], "one"), (1, closures[1], "two"), (2, closures[0], "one")):
            await hive.runtime.activate(replace(hive.spec(), closure=closure, deployment=number))
            seen = json.loads(await hive.line(f'"deployment": "{number}"'))
            assert seen == {"deployment": str(number), "prompt": prompt}
            assert hive.unit().lifecycle == "running"


async def test_a_closure_that_is_gone(runtime: Opened) -> None:
    """What is gone is neither activated nor started: the refusal says so, and what runs goes on."""
    async with runtime() as hive:
        old = await hive.runtime.build(order(hive.layout, FILES), ignore)
        await hive.runtime.activate(replace(hive.spec(), closure=old, deployment=1))
        pid = hive.unit().pid
        for gone in (str(Path(old).with_name("0" * 40)), "/etc", "relative", str(Path(old, "..", "x"))):
            assert not await hive.runtime.has(gone)
            for action in (hive.runtime.activate, hive.runtime.start):
                with pytest.raises(HiveError) as refused:
                    await action(replace(hive.spec(), closure=gone, deployment=2))
                assert (refused.value.code, refused.value.status) == ("closure_gone", 409)
        assert (hive.unit().pid, hive.unit().lifecycle) == (pid, "running")


async def test_a_closure_is_found_where_the_hive_is_now(runtime: Opened) -> None:
    """A closure is stored without the path of the hive; one that an older daemon stored with a path is found too."""
    async with runtime() as hive:
        closure = await hive.runtime.build(order(hive.layout, FILES), ignore)
        assert closure.startswith("ada/")
        former = f"/srv/old/closures/{closure}"
        assert await hive.runtime.has(former)
        await hive.runtime.activate(replace(hive.spec(), closure=former))
        assert "prompt" in json.loads(await hive.line('"deployment"'))
        await hive.runtime.keep("ada", [former])
        assert await hive.runtime.has(closure)


async def test_what_runs_is_kept(runtime: Opened) -> None:
    """Closures that are not to be kept are removed, but never the one that the agent runs on."""
    async with runtime() as hive:
        closures = [
            await hive.runtime.build(order(hive.layout, {**FILES, "prompt.md": text}), ignore)
            for text in (b"one", b"two", b"three")
        ]
        await hive.runtime.activate(replace(hive.spec(), closure=closures[0], deployment=1))
        await hive.runtime.keep("ada", [closures[1]])
        assert [await hive.runtime.has(closure) for closure in closures] == [True, True, False]
        await hive.runtime.keep("nobody", [])


TREE = "a" * 40


def write(place: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


@pytest.fixture
def closures(tmp_path: Path) -> LocalClosures:
    return LocalClosures(tmp_path / "closures", tmp_path / "scratch")


def test_a_closure_is_read_only(closures: LocalClosures) -> None:
    """Files in a closure are read-only, and those that could be run still can."""
    made = write(closures.create_scratch() / "files", {"a": b"1", "bin/run": b"2"})
    (made / "bin" / "run").chmod(0o700)
    path = closures.put(made, "ada", TREE)
    assert path == closures.path("ada", TREE)
    assert [(path / name).stat().st_mode & 0o777 for name in ("a", "bin/run")] == [0o444, 0o555]


def test_the_first_stays(closures: LocalClosures) -> None:
    """Another build of the same tree changes nothing of a closure that is there already."""
    first = closures.put(write(closures.create_scratch() / "files", {"a": b"1"}), "ada", TREE)
    inode = (first / "a").stat().st_ino
    assert closures.put(write(closures.create_scratch() / "files", {"a": b"1"}), "ada", TREE) == first
    assert (first / "a").stat().st_ino == inode


def test_work_cut_off_is_no_closure(closures: LocalClosures, tmp_path: Path) -> None:
    """What a killed build leaves behind is not taken for a closure, and is in no later build's way."""
    write(closures.create_scratch() / "files", {"a": b"half"})
    assert not closures.has(str(closures.path("ada", TREE)))
    path = closures.put(write(closures.create_scratch() / "files", {"a": b"whole"}), "ada", TREE)
    assert (path / "a").read_bytes() == b"whole"


def test_removal_is_whole_and_of_ours_only(closures: LocalClosures, tmp_path: Path) -> None:
    """What is removed goes with its read-only files; the agent's directory goes with its last closure."""
    closures.put(write(closures.create_scratch() / "files", {"d/a": b"1"}), "ada", TREE)
    closures.put(write(closures.create_scratch() / "files", {"d/a": b"1"}), "bob", TREE)
    closures.keep("ada", [])
    assert [path.name for path in (tmp_path / "closures").iterdir()] == ["bob"]
