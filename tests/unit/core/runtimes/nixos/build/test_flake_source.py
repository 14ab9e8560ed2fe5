"""When hyperhive's flake is looked at."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build.flake_source import (
    FRESH_SECONDS,
    FlakeRevision,
    FlakeSource,
    archived_paths,
    fetch_inputs,
    look_up_flake,
    parse_metadata,
    revision_of,
)
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix


class Flake:
    """A flake that changes with each look, as long as it can be had."""

    def __init__(self) -> None:
        self.looks = 0
        self.time = 0.0
        self.gone = False
        self.open = asyncio.Event()

    async def look(self) -> FlakeRevision:
        self.looks += 1
        found = FlakeRevision(f"sha256-{self.looks}", None, None)
        await self.open.wait()
        if self.gone:
            raise HiveError("flake_unavailable", "it is gone")
        return found


async def test_a_full_disk_is_a_refusal() -> None:
    """What cannot be kept is told as what it is, and what was known before stays known."""

    async def look() -> FlakeRevision:
        raise OSError(28, "No space left on device")

    flake_source = FlakeSource(look)
    with pytest.raises(HiveError, match="No space left"):
        await flake_source.now()
    assert await flake_source.known() is None
    await flake_source.close()


def hash_of(found: FlakeRevision | None) -> str | None:
    return None if found is None else found.nar_hash


async def test_whoever_asks_waits_for_the_first_look() -> None:
    """Nobody is told that nothing is old only because it is not known yet; all who ask share one look."""
    flake = Flake()
    flake_source = FlakeSource(flake.look, lambda: flake.time)
    asking = [asyncio.create_task(flake_source.known()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in asking)
    flake.open.set()
    assert [hash_of(found) for found in await asyncio.gather(*asking)] == ["sha256-1"] * 3
    await flake_source.close()


async def test_it_is_looked_at_again_after_a_while() -> None:
    """Without any build, and not more often than that; a build's own look counts, too."""
    flake = Flake()
    flake.open.set()
    flake_source = FlakeSource(flake.look, lambda: flake.time)
    seen = []
    for flake.time in (0.0, FRESH_SECONDS - 1, FRESH_SECONDS, 2 * FRESH_SECONDS - 1):
        seen += [hash_of(await flake_source.known()), hash_of(await flake_source.known())]
    assert seen == ["sha256-1"] * 4 + ["sha256-2"] * 4
    assert (await flake_source.now()).nar_hash == "sha256-3"
    flake.time += FRESH_SECONDS - 1
    assert hash_of(await flake_source.known()) == "sha256-3"
    await flake_source.close()


async def test_what_cannot_be_had_stays_as_it_was_known() -> None:
    """It is tried no more often than otherwise, a build is told, and after the end nothing is tried any more."""
    flake = Flake()
    flake.open.set()
    flake_source = FlakeSource(flake.look, lambda: flake.time)
    assert hash_of(await flake_source.known()) == "sha256-1"
    flake.gone = True
    flake.time += FRESH_SECONDS
    assert [hash_of(await flake_source.known()) for _ in range(2)] == ["sha256-1"] * 2
    assert flake.looks == 2
    with pytest.raises(HiveError, match="it is gone"):
        await flake_source.now()
    await flake_source.close()
    flake.time += FRESH_SECONDS
    assert hash_of(await flake_source.known()) == "sha256-1"
    assert flake.looks == 3


async def test_it_can_be_closed_while_somebody_waits() -> None:
    """Who waits is told what is known: nothing."""
    flake = Flake()
    flake_source = FlakeSource(flake.look, lambda: flake.time)
    asking = asyncio.create_task(flake_source.known())
    await asyncio.sleep(0)
    await flake_source.close()
    assert await asking is None
    flake.time += FRESH_SECONDS
    assert await flake_source.known() is None
    assert flake.looks == 1


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnNix]:
    nix = OwnNix(tmp_path / "nix")
    for name, text in nix.variables.items():
        monkeypatch.setenv(name, text)
    yield nix


@needs_nix
async def test_the_flake_is_identified_by_its_content(nix: OwnNix, tmp_path: Path) -> None:
    """Real Nix tells the identity, where it has put the source, and a lock; a change of the flake is another one."""
    flake = tmp_path / "hyperhive"
    flake.mkdir()
    (flake / "flake.nix").write_text("{ outputs = { self }: { same = self.narHash; }; }")
    first = await look_up_flake(f"path:{flake}")
    assert first.nar_hash == nix.flake("eval", "--raw", f"path:{flake}#same")
    assert first.source is not None
    assert (nix.store / first.source / "flake.nix").is_file()
    assert first.lock is not None
    (flake / "more").write_text("")
    assert (await look_up_flake(f"path:{flake}")).nar_hash != first.nar_hash


@needs_nix
async def test_all_inputs_are_in_the_store_before_an_evaluation(nix: OwnNix, tmp_path: Path) -> None:
    """The locked inputs of a flake, and those of its inputs, are fetched, and no temporary file is left."""
    for name, inputs in (
        ("leaf", ""),
        ("tool", f'inputs.leaf.url = "path:{tmp_path}/leaf";'),
        ("hive", f'inputs.tool.url = "path:{tmp_path}/tool"; inputs.data.url = "path:{tmp_path}/leaf";'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "flake.nix").write_text(f'{{ {inputs} outputs = _: {{ name = "{name}"; }}; }}')
    found = await look_up_flake(f"path:{tmp_path}/hive")
    assert found.lock is not None and found.source is not None
    nix.run("nix-store", "--gc")
    paths = await fetch_inputs(f"path:{tmp_path}/hive", found.lock, tmp_path / "scratch")
    texts = sorted((nix.store / path / "flake.nix").read_text().partition("name = ")[2][:6] for path in paths)
    assert texts == ['"hive"', '"leaf"', '"tool"']
    assert found.source in paths
    assert list((tmp_path / "scratch").iterdir()) == []
    (tmp_path / "leaf/new").write_text("")
    nix.run("nix-store", "--gc")
    with pytest.raises(HiveError, match=r"inputs of hyperhive's flake .* cannot be had") as caught:
        await fetch_inputs(f"path:{tmp_path}/hive", found.lock, tmp_path / "scratch")
    assert caught.value.code == "flake_unavailable"
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"inputs": []}', '{"inputs": {"a": {"path": 1, "inputs": {}}}}'])
def test_another_form_of_the_list_of_inputs_is_refused(answer: str) -> None:
    """An answer that is not understood is an error, rather than no inputs."""
    with pytest.raises(HiveError) as caught:
        archived_paths(answer)
    assert caught.value.code == "flake_unavailable"


@needs_nix
async def test_a_flake_that_cannot_be_had_is_told(nix: OwnNix, tmp_path: Path) -> None:
    """A wrong setting is refused with its name and Nix's own words; it cannot be taken for an option."""
    for flake in (f"path:{tmp_path}/nothing", "--help"):
        with pytest.raises(HiveError, match=r"(?s)cannot be had: nix.*error: ") as caught:
            await look_up_flake(flake)
        assert caught.value.code == "flake_unavailable"
        assert "nixos.flake" in caught.value.hint


@pytest.mark.parametrize("answer", ["", "[]", "{", "{}", '{"locked": 1}', '{"locked": {"narHash": ""}}'])
def test_an_answer_without_a_hash_is_none(answer: str) -> None:
    """What tells no identity is not taken for one."""
    assert parse_metadata(answer) is None


def test_an_answer_of_an_unknown_form_still_tells_the_hash() -> None:
    """A newer Nix may tell its locks otherwise: the identity is known, and the lock is left to Nix."""
    found = parse_metadata(json.dumps({"locked": {"narHash": "sha256-A"}, "locks": {"version": 99}}))
    assert found is not None
    assert (found.nar_hash, found.source, found.lock) == ("sha256-A", None, None)


def test_the_recipe_is_read_from_the_closure(tmp_path: Path) -> None:
    """The identity that a closure was built with is in it, through links as NixOS makes them."""
    store = tmp_path.resolve()
    (store / "etc/hyperhive").mkdir(parents=True)
    (store / "etc/hyperhive/recipe").write_text("sha256-A\n")
    (store / "system").mkdir()
    (store / "system/etc").symlink_to(store / "etc")
    assert revision_of(store / "system", store) == "sha256-A"
    assert revision_of(store / "none", store) is None


def test_a_hostile_recipe_is_none(tmp_path: Path) -> None:
    """A recipe that points elsewhere, is a pipe or no text tells nothing, and nothing is waited for."""
    store = tmp_path.resolve() / "store"
    recipe = store / "etc/hyperhive/recipe"
    recipe.parent.mkdir(parents=True)
    (tmp_path / "secret").write_text("sha256-A")
    recipe.symlink_to(tmp_path / "secret")
    assert revision_of(store, store) is None
    recipe.unlink()
    os.mkfifo(recipe)
    assert revision_of(store, store) is None
    recipe.unlink()
    recipe.write_bytes(b"\xff\xfe")
    assert revision_of(store, store) is None
    recipe.write_text(" \n")
    assert revision_of(store, store) is None
