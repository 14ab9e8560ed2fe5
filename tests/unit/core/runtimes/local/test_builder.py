"""Building, comparing, keeping and activating: what every runtime promises the gate."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.base import BuildFailed
from tests.helpers.git_repos import FILES, NIX, order
from tests.unit.core.runtimes.local.local_hive import POLITE, Hive, Mode, opened

Opened = Callable[[], AbstractAsyncContextManager[Hive]]
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
    async def open_it() -> AsyncIterator[Hive]:
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


async def test_agents_do_not_share_closures(runtime: Opened) -> None:
    """What is kept or removed of one agent's is nothing to another's, also if both have the same files."""
    async with runtime() as hive:
        ada = await hive.runtime.build(order(hive.layout, FILES), ignore)
        bob = await hive.runtime.build(order(hive.layout, FILES, "bob"), ignore)
        await hive.runtime.keep("ada", [])
        assert [await hive.runtime.has(closure) for closure in (ada, bob)] == [False, True]


async def test_a_syntax_error_is_told_with_its_place(runtime: Opened) -> None:
    """A build of an agent.nix that is not Nix fails with line, column and the line itself."""
    async with runtime() as hive:
        wrong = {**FILES, "agent.nix": b"{ pkgs, ... }:\n{\n  a = 1\n  b = 2;\n}\n"}
        with pytest.raises(BuildFailed) as failed:
            await hive.runtime.build(order(hive.layout, wrong), ignore)
        first, line, caret = str(failed.value).splitlines()
        assert first.startswith("agent.nix, line 4, column 5: ")
        assert line.endswith("b = 2;")
        assert caret.index("^") == line.index("=")


async def test_a_wrong_setting_is_told(runtime: Opened) -> None:
    """A build of an agent.toml with a key that is not known fails with the key."""
    async with runtime() as hive:
        with pytest.raises(BuildFailed, match=r"agent\.toml, 'modell'"):
            await hive.runtime.build(order(hive.layout, {**FILES, "agent.toml": b'modell = "x"\n'}), ignore)


async def test_a_failed_build_leaves_nothing(runtime: Opened) -> None:
    """After a build that failed or was given up nothing lies around, and what is right can be built."""
    async with runtime() as hive:
        with pytest.raises(BuildFailed):
            await hive.runtime.build(order(hive.layout, {**FILES, "agent.nix": b"{"}), ignore)
        told = asyncio.Event()
        task = asyncio.create_task(hive.runtime.build(order(hive.layout, FILES), lambda _: told.set()))
        await told.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert list(hive.layout.scratch.iterdir()) == []
        assert await hive.runtime.has(await hive.runtime.build(order(hive.layout, FILES), ignore))


async def test_what_differs_is_told(runtime: Opened) -> None:
    """Two closures are compared in words that name the files; the same closure does not differ from itself."""
    async with runtime() as hive:
        old = await hive.runtime.build(order(hive.layout, FILES), ignore)
        changed = {**FILES, "prompt.md": b"You help.\nBriefly.\n", "more.nix": NIX}
        new = await hive.runtime.build(order(hive.layout, changed), ignore)
        words = await hive.runtime.compare(old, new)
        assert words == ["more.nix added (4 lines)", "prompt.md changed (1 line added, 0 removed)"]
        assert await hive.runtime.compare(new, new) == []
        assert {line.split()[0] for line in await hive.runtime.compare(None, old)} == set(FILES)


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
