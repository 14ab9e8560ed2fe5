"""What is a closure, in a real store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build import store as store_module
from hive_core.runtimes.nixos.build.store import GcRoots, Store
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

HASH = "0jw0f4bvmmsa1nwi0wbz05iv1gbhqxa1"


@pytest.mark.parametrize(
    "closure",
    [
        "",
        "/",
        "/nix/store",
        f"/nix/store/{HASH}",
        f"/nix/store/{HASH}-",
        f"/nix/store/{HASH}-a/init",
        f"/nix/store/../store/{HASH}-a",
        f"/nix/store/{HASH}-a/",
        f"/nix/store//{HASH}-a",
        f"/nix/store/{HASH}-a\n",
        f"/nix/store/{HASH}-a b",
        f"/nix/store/{HASH[1:]}A-a",
        f"/var/lib/{HASH}-a",
        f"nix/store/{HASH}-a",
        f"--help {HASH}-a",
        f"/nix/store/{HASH}-{'a' * 212}",
    ],
)
async def test_anything_else_is_refused(closure: str) -> None:
    """Only a path right in the store, in the form that Nix gives it, is ever handed to a program or opened."""
    store = Store(Path("/nix/store"))
    with pytest.raises(HiveError, match="not a path in the Nix store"):
        store.check(closure)
    assert not await store.has(closure)


def test_a_closure_is_a_path() -> None:
    """What Nix calls a system is accepted."""
    closure = f"/nix/store/{HASH}-nixos-system-ada-25.11.20251215.c6f52eb"
    assert Store(Path("/nix/store")).check(closure) == Path(closure)


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnNix]:
    nix = OwnNix(tmp_path / "nix")
    for name, text in nix.variables.items():
        monkeypatch.setenv(name, text)
    yield nix


@needs_nix
async def test_the_store_is_where_nix_says(nix: OwnNix) -> None:
    """The store's directory is asked of Nix: it need not be /nix/store."""
    assert (await Store.find()).directory == nix.store


@needs_nix
async def test_a_closure_is_there_when_it_is_valid_and_boots(nix: OwnNix) -> None:
    """A valid path with an `init` can be activated; one without, one collected and one never finished cannot."""
    store = await Store.find()
    system = nix.add("nixos-system-ada", "mkdir $out; echo >$out/init")
    tool = nix.add("tool", "mkdir $out")
    assert await store.has(system)
    assert not await store.has(tool)
    paths = await store.paths_of(system)
    assert list(paths) == [system] and 0 < paths[system] < 10_000
    half = nix.store / f"{HASH}-nixos-system-bob"
    half.mkdir()
    (half / "init").write_text("")
    assert not await store.has(str(half))
    nix.run("nix-store", "--gc")
    assert not await store.has(system)


@needs_nix
async def test_a_closure_is_told_with_the_bytes_of_each_path(nix: OwnNix, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it needs is in it, however many paths are asked for at once; what is gone is a failure."""
    monkeypatch.setattr("hive_core.runtimes.nixos.build.store._AT_ONCE", 2)
    tools = [nix.add(f"tool-{number}", f"head -c {number}0000 /dev/zero > $out") for number in range(1, 4)]
    system = nix.add("nixos-system-ada", f"echo {' '.join(tools)} > $out", tools)
    paths = await (await Store.find()).paths_of(system)
    assert paths.keys() == {system, *tools}
    # In the form in which Nix weighs a path there is a frame of about a hundred bytes around a file.
    assert [paths[tool] // 10_000 for tool in tools] == [1, 2, 3]
    with pytest.raises(HiveError) as refused:
        await Store(nix.store).paths_of(str(nix.store / f"{HASH}-gone"))
    assert refused.value.code == "command_failed"


async def test_an_answer_of_another_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that are not a number for each path are no sizes."""
    program = tmp_path / "nix-store"
    program.write_text(f'#!/bin/sh\n[ "$2" = --size ] && echo many || echo {tmp_path}/{HASH}-a\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(HiveError, match="a number for each path"):
        await Store(tmp_path).paths_of(f"{tmp_path}/{HASH}-a")


async def test_nix_is_not_asked_for_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes as long as half of a container's start; what is not there, or does not boot, is seen without it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    store, closure = Store(tmp_path), tmp_path / f"{HASH}-nixos-system-ada"
    assert not await store.has(str(closure), held=True)
    closure.mkdir()
    assert not await store.has(str(closure), held=True)
    (closure / "init").touch()
    assert await store.has(str(closure), held=True)
    with pytest.raises(HiveError, match="nix-store is not installed"):
        await store.has(str(closure))


async def test_without_nix_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host without Nix gets to know what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HiveError, match="nix-instantiate is not installed") as caught:
        await Store.find()
    assert caught.value.code == "no_nix"
    assert "install Nix" in caught.value.hint


def remaining(*paths: str) -> list[str]:
    return [path for path in paths if Path(path).exists()]


@needs_nix
async def test_a_kept_closure_outlives_the_garbage_collector(nix: OwnNix, tmp_path: Path) -> None:
    """What has a root survives a collection with all that it needs; given up, it goes with the next."""
    gc_roots = GcRoots(tmp_path / "gcroots")
    tool = nix.add("tool", "echo tool >$out")
    system = nix.add("nixos-system-ada", f"echo {tool} >$out", [tool])
    other = nix.add("other", "echo >$out")
    await gc_roots.add("ada", 1, system)
    await gc_roots.add("ada", 1, system)
    await gc_roots.add_sources([other])
    assert await gc_roots.has_sources()
    nix.run("nix-store", "--gc")
    assert remaining(tool, system, other) == [tool, system, other]
    assert [await gc_roots.hold(path) for path in (system, tool, other)] == [True, False, False]

    await gc_roots.keep("ada", [])
    await gc_roots.add_sources([nix.add("newer", "echo >$out"), nix.add("newer-input", "echo >$out")])
    nix.run("nix-store", "--gc")
    assert remaining(tool, system, other) == []
    assert not (tmp_path / "gcroots/ada").exists()
    assert not await gc_roots.hold(system)


@needs_nix
async def test_sources_that_are_gone_are_noticed(nix: OwnNix, tmp_path: Path) -> None:
    """A store that has lost one of the sources, whose links were removed or never made, does not have them."""
    gc_roots = GcRoots(tmp_path / "gcroots")
    assert not await gc_roots.has_sources()
    source = nix.add("source", "echo >$out")
    await gc_roots.add_sources([source, nix.add("input", "echo >$out")])
    assert await gc_roots.has_sources()
    nix.run("nix-store", "--delete", "--ignore-liveness", source)
    assert not await gc_roots.has_sources()


@needs_nix
async def test_a_derivation_is_held_without_being_built(nix: OwnNix, tmp_path: Path) -> None:
    """A link holds a derivation with all that it needs as long as it exists, and one that is gone is told."""
    store = Store(nix.store)
    file = tmp_path / "x.nix"
    file.write_text('derivation { name = "x"; system = "x"; builder = builtins.toFile "script" "true"; }')
    derivation = nix.run("nix-instantiate", str(file)).strip()
    await store.hold_derivation(derivation, tmp_path / "link")
    nix.run("nix-store", "--gc")
    assert remaining(derivation) == [derivation]
    (tmp_path / "link").unlink()
    nix.run("nix-store", "--gc")
    assert remaining(derivation) == []
    with pytest.raises(HiveError) as caught:
        await store.hold_derivation(derivation, tmp_path / "link")
    assert (caught.value.code, caught.value.status) == ("cannot_build", 503)


@needs_nix
async def test_a_directory_is_added_as_the_source_of_a_flake(nix: OwnNix, tmp_path: Path) -> None:
    """The path and the hash are those that a flake's `path:` input of the same files gets."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "agent.nix").write_text("{ }\n")
    store = Store(nix.store)
    path = await store.add(source, tmp_path / "root")
    nix.run("nix-store", "--gc")
    assert (Path(path) / "agent.nix").read_text() == "{ }\n"
    expression = f'let x = builtins.fetchTree {{ type = "path"; path = "{source}"; }}; in [ (toString x) x.narHash ]'
    found = nix.flake("eval", "--impure", "--json", "--expr", expression)
    assert json.loads(found) == [path, await store.nar_hash(path)]


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
    await GcRoots(tmp_path).keep("ada", ["/s/b", "/s/d"])
    assert links(tmp_path / "ada") == [1, 3, 4]
    assert links(tmp_path / "bob") == [1]


async def test_a_build_that_has_just_ended_is_kept(tmp_path: Path) -> None:
    """A root of a later number than all that are kept is one that the caller may not know yet. It goes later."""
    links(tmp_path / "ada", _1="/s/a", _2="/s/b", _3="/s/c")
    await GcRoots(tmp_path).keep("ada", ["/s/b"])
    assert links(tmp_path / "ada") == [2, 3]
    links(tmp_path / "ada", _4="/s/d")
    await GcRoots(tmp_path).keep("ada", ["/s/d"])
    assert links(tmp_path / "ada") == [4]


async def test_unknown_closures_remove_nothing(tmp_path: Path) -> None:
    """Asked to keep what has no root, it does not give up everything else."""
    links(tmp_path / "ada", _1="/s/a")
    await GcRoots(tmp_path).keep("ada", ["/s/x"])
    assert links(tmp_path / "ada") == [1]
    await GcRoots(tmp_path).keep("nobody", ["/s/x"])
    await GcRoots(tmp_path).keep("nobody", [])


@needs_nix
async def test_a_plan_has_limited_memory(nix: OwnNix, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nix plans within its limit; a graph of derivations that needs more ends the plan, not the host."""
    file = nix.directory / "system.nix"
    file.write_text(
        """
        let make = name: inputs: derivation { inherit name inputs; system = "x86_64-linux"; builder = "/bin/sh"; };
        in make "system" (map (number: make "part-${toString number}" [ ]) (builtins.genList (number: number) 300))
        """
    )
    wanted = nix.run("nix-instantiate", str(file)).strip()
    store = await Store.find()
    plan = await store.plan(wanted)
    assert len(plan.builds) == 301 and wanted in plan.builds
    monkeypatch.setattr(store_module, "_PLAN_MEMORY", 16 * 1024**2)
    with pytest.raises(HiveError, match="nix-store --realise --dry-run"):
        await store.plan(wanted)
