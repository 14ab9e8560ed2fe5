"""Which hyperhive a system is built with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.recipe import look, parse, recipe_of
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix


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
    first = await look(f"path:{flake}")
    assert first.nar_hash == nix.flake("eval", "--raw", f"path:{flake}#same")
    assert first.source is not None
    assert (nix.store / first.source / "flake.nix").is_file()
    assert first.lock is not None
    (flake / "more").write_text("")
    assert (await look(f"path:{flake}")).nar_hash != first.nar_hash


@needs_nix
async def test_a_flake_that_cannot_be_had_is_told(nix: OwnNix, tmp_path: Path) -> None:
    """A wrong setting is refused with its name and Nix's own words; it cannot be taken for an option."""
    for flake in (f"path:{tmp_path}/nothing", "--help"):
        with pytest.raises(HiveError, match=r"(?s)cannot be had: nix.*error: ") as caught:
            await look(flake)
        assert caught.value.code == "flake_unavailable"
        assert "nixos.flake" in caught.value.hint


@pytest.mark.parametrize("answer", ["", "[]", "{", "{}", '{"locked": 1}', '{"locked": {"narHash": ""}}'])
def test_an_answer_without_a_hash_is_none(answer: str) -> None:
    """What tells no identity is not taken for one."""
    assert parse(answer) is None


def test_an_answer_of_an_unknown_form_still_tells_the_hash() -> None:
    """A newer Nix may tell its locks otherwise: the identity is known, and the lock is left to Nix."""
    found = parse(json.dumps({"locked": {"narHash": "sha256-A"}, "locks": {"version": 99}}))
    assert found is not None
    assert (found.nar_hash, found.source, found.lock) == ("sha256-A", None, None)


def test_the_recipe_is_read_from_the_closure(tmp_path: Path) -> None:
    """The identity that a closure was built with is in it, through links as NixOS makes them."""
    store = tmp_path.resolve()
    (store / "etc/hyperhive").mkdir(parents=True)
    (store / "etc/hyperhive/recipe").write_text("sha256-A\n")
    (store / "system").mkdir()
    (store / "system/etc").symlink_to(store / "etc")
    assert recipe_of(store / "system", store) == "sha256-A"
    assert recipe_of(store / "none", store) is None


def test_a_hostile_recipe_is_none(tmp_path: Path) -> None:
    """A recipe that points elsewhere, is a pipe or no text tells nothing, and nothing is waited for."""
    store = tmp_path.resolve() / "store"
    recipe = store / "etc/hyperhive/recipe"
    recipe.parent.mkdir(parents=True)
    (tmp_path / "secret").write_text("sha256-A")
    recipe.symlink_to(tmp_path / "secret")
    assert recipe_of(store, store) is None
    recipe.unlink()
    os.mkfifo(recipe)
    assert recipe_of(store, store) is None
    recipe.unlink()
    recipe.write_bytes(b"\xff\xfe")
    assert recipe_of(store, store) is None
    recipe.write_text(" \n")
    assert recipe_of(store, store) is None
