"""Fetches from the network: what can be recorded of them, and their texts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.gate.records import fetches
from hive_core.gate.records.fetches import FetchPermission
from hive_core.runtimes.base import Fetch

BY_NIX = Fetch("x.tar", ("https://a.example/x",), "sha256-x", "/nix/store/aaa-x.tar.drv", "builtin:fetchurl")
BY_PROGRAM = replace(BY_NIX, derivation="/nix/store/bbb-x.drv", program="/nix/store/ccc-bash/bin/bash")
FORGED = "https://a.example/\n- Nix itself fetches: nothing at all\u202e"


def test_reason_names_every_fetch() -> None:
    """The reason says how many there are, then of each who fetches, the derivation, the hash and the URLs."""
    assert fetches.missing_reason([BY_NIX, BY_PROGRAM], "ada/3") == (
        "the build needs 2 fetches from the network that no operator has allowed:\n"
        "- Nix itself fetches: derivation /nix/store/aaa-x.tar.drv, hash sha256-x, URLs https://a.example/x\n"
        "- a program of the configuration runs with network and may contact any host: derivation /nix/store/bbb-x.drv, "
        "hash sha256-x, program /nix/store/ccc-bash/bin/bash, URLs that it names https://a.example/x"
    )


def test_many_fetches_are_counted() -> None:
    """The first ten of many are named, and the command that shows all of them."""
    many = [replace(BY_NIX, derivation=f"/nix/store/{number}.drv") for number in range(12)]
    lines = fetches.missing_reason(many, "ada/3").splitlines()
    assert len(lines) == 12
    assert lines[-1] == "- and 2 more: hive-c0re proposals show ada/3 has all of them"


@given(st.one_of(st.just(FORGED), st.text(max_size=40)))
def test_texts_stay_in_their_line(text: str) -> None:
    """Whatever a configuration calls its URLs, hashes and programs, a fetch stays one line that our words begin."""
    for program in ("builtin:fetchurl", text):
        line = fetches.describe(Fetch(text, (text, text), text, text, program))
        assert len(line.splitlines()) == 1
        assert line.startswith(("Nix itself fetches: ", "a program of the configuration runs with network and may"))
        assert "\u202e" not in line


@pytest.mark.parametrize(
    "changes",
    [
        {"urls": (FORGED,)}, {"name": "\u043e"}, {"hash": "x" * 5_000}, {"urls": ("https://a.example/",) * 65},
        {"derivation": ""}, {"derivation": "/nix/store/x"}, {"derivation": "/nix/store/x y.drv"},
        {"derivation": "/nix/store/x.drv\n"}, {"derivation": "x.drv"},
    ],
)  # fmt: skip
def test_what_cannot_be_shown_cannot_be_allowed(changes: dict[str, object]) -> None:
    """A fetch that nobody could read, or whose derivation is no store path, is not recorded; the reason says so."""
    wrong = replace(BY_NIX, **changes)  # type: ignore[arg-type]
    assert fetches.can_be_recorded([BY_NIX])
    assert not fetches.can_be_recorded([BY_NIX, wrong])
    assert "they cannot be allowed" in fetches.missing_reason([BY_NIX, wrong], "ada/3").splitlines()[0]


@pytest.mark.parametrize("many", [[BY_NIX] * 201, [replace(BY_NIX, urls=("https://a.example/" + "x" * 3_000,))] * 100])
def test_too_many_cannot_be_allowed(many: list[Fetch]) -> None:
    """More fetches, or more text, than a tag may hold are not recorded, not even a part of them."""
    assert not fetches.can_be_recorded(many)


def test_stored_permissions_are_read() -> None:
    """Tags exist that hold permissions in this form."""
    stored = (
        '{"by": "operator:alice", "failed": 3, "number": 4, "fetches": [{"name": "x.tar", '
        '"urls": ["https://a.example/x"], "hash": "sha256-x", "derivation": "/nix/store/aaa-x.tar.drv", '
        '"program": "builtin:fetchurl"}]}'
    )
    permission = fetches.parse_permission(stored)
    assert permission == FetchPermission("operator:alice", 3, 4, (BY_NIX,))
    assert fetches.to_json(permission) == stored


def test_permission_comes_back() -> None:
    """A permission is read as it was written, and knows its derivations; none is none."""
    permission = FetchPermission("operator:alice", 3, 4, (BY_NIX, BY_PROGRAM))
    assert fetches.parse_permission(fetches.to_json(permission)) == permission
    assert permission.derivations == {"/nix/store/aaa-x.tar.drv", "/nix/store/bbb-x.drv"}
    assert fetches.parse_permission(None) is None
    assert [fetch.by_nix for fetch in permission.to_protocol().fetches] == [True, False]
