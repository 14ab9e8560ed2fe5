"""Closures that the garbage collector leaves alone, with real Nix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_core.runtimes.nixos.roots import Roots
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnNix]:
    nix = OwnNix(tmp_path / "nix")
    for name, text in nix.variables.items():
        monkeypatch.setenv(name, text)
    yield nix


def remaining(*paths: str) -> list[str]:
    return [path for path in paths if Path(path).exists()]


@needs_nix
async def test_a_kept_closure_outlives_the_garbage_collector(nix: OwnNix, tmp_path: Path) -> None:
    """What has a root survives a collection with all that it needs; given up, it goes with the next."""
    roots = Roots(tmp_path / "gcroots")
    tool = nix.add("tool", "echo tool >$out")
    system = nix.add("nixos-system-ada", f"echo {tool} >$out", [tool])
    other = nix.add("other", "echo >$out")
    await roots.add("ada", 1, system)
    await roots.add("ada", 1, system)
    await roots.add_source(other)
    nix.run("nix-store", "--gc")
    assert remaining(tool, system, other) == [tool, system, other]
    assert [await roots.hold(path) for path in (system, tool, other)] == [True, False, False]

    await roots.keep("ada", [])
    await roots.add_source(nix.add("newer", "echo >$out"))
    nix.run("nix-store", "--gc")
    assert remaining(tool, system, other) == []
    assert not (tmp_path / "gcroots/ada").exists()
    assert not await roots.hold(system)


def links(directory: Path, **numbers: str) -> list[int]:
    """Make roots as Nix would, or tell which there are."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, closure in numbers.items():
        (directory / number.lstrip("_")).symlink_to(closure)
    return sorted(int(link.name) for link in directory.iterdir())


async def test_old_roots_go(tmp_path: Path) -> None:
    """Only the closures that are named are kept; two numbers may have the same one."""
    links(tmp_path / "ada", _0="/s/a", _1="/s/b", _2="/s/c", _3="/s/b", _4="/s/d")
    links(tmp_path / "bob", _1="/s/a")
    await Roots(tmp_path).keep("ada", ["/s/b", "/s/d"])
    assert links(tmp_path / "ada") == [1, 3, 4]
    assert links(tmp_path / "bob") == [1]


async def test_a_build_that_has_just_ended_is_kept(tmp_path: Path) -> None:
    """A root of a later number than all that are kept is one that the caller may not know yet. It goes later."""
    links(tmp_path / "ada", _1="/s/a", _2="/s/b", _3="/s/c")
    await Roots(tmp_path).keep("ada", ["/s/b"])
    assert links(tmp_path / "ada") == [2, 3]
    links(tmp_path / "ada", _4="/s/d")
    await Roots(tmp_path).keep("ada", ["/s/d"])
    assert links(tmp_path / "ada") == [4]


async def test_unknown_closures_remove_nothing(tmp_path: Path) -> None:
    """Asked to keep what has no root, it does not give up everything else."""
    links(tmp_path / "ada", _1="/s/a")
    await Roots(tmp_path).keep("ada", ["/s/x"])
    assert links(tmp_path / "ada") == [1]
    await Roots(tmp_path).keep("nobody", ["/s/x"])
    await Roots(tmp_path).keep("nobody", [])
