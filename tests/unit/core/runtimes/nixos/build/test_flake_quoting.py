"""Nix literals and flake references: their exact text, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_core.runtimes.nixos.build.flake import nix_integer, nix_string, nix_value, path_reference


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("ada", '"ada"'),
        ("", '""'),
        ("${builtins.abort}", '"\\${builtins.abort}"'),
        ("$${x}", '"\\$\\${x}"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("''${x}''", "\"''\\${x}''\""),
        ("a\\${b}", '"a\\\\\\${b}"'),
        ("one\ntwo\r\n\tthree", '"one\\ntwo\\r\\n\\tthree"'),
        ("naïve 蜂 🐝", '"naïve 蜂 🐝"'),
    ],
)
def test_strings_are_literals(text: str, literal: str) -> None:
    """Whatever has a meaning in a Nix string is written so that it has none."""
    assert nix_string(text) == literal
    assert nix_value(text) == literal


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d of a pair"])
def test_what_no_string_can_hold_is_refused(text: str) -> None:
    """NUL and lone surrogates are refused rather than cut or replaced."""
    with pytest.raises(ValueError, match="cannot hold"):
        nix_string(text)


@pytest.mark.parametrize(
    ("number", "literal"),
    [
        (0, "0"),
        (8100, "8100"),
        (-1, "(-1)"),
        (2**63 - 1, "9223372036854775807"),
        (-(2**63), "(-9223372036854775807 - 1)"),
    ],
)
def test_integers_are_literals(number: int, literal: str) -> None:
    """Every 64-bit integer can be written, also the lowest, which has no literal."""
    assert nix_value(number) == literal


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_integers_beyond_64_bits_are_refused(number: int) -> None:
    """An integer that Nix would not read is refused."""
    with pytest.raises(ValueError, match="64 bits"):
        nix_integer(number)


def test_other_types_are_refused() -> None:
    """Truth values are no integers in Nix, and what has no literal is refused."""
    assert nix_value(True) == "true"
    assert nix_value(False) == "false"
    for found in (None, 1.5, ["a"], Path("/a")):
        with pytest.raises(TypeError, match="no way"):
            nix_value(found)


def test_paths_that_have_to_be_encoded_are_refused() -> None:
    """Nix 2.8 does not decode the path of a directory and newer ones do: such a path is refused, not misread."""
    assert path_reference(Path("/scratch/nix-a_b.c/flake")) == "path:/scratch/nix-a_b.c/flake"
    for path in ("/a b", "/a?b", "/a#b", "/a%20b", "/ä"):
        with pytest.raises(ValueError, match="every version"):
            path_reference(Path(path))


def test_relative_paths_are_refused() -> None:
    """A reference must not depend on where Nix is run."""
    with pytest.raises(ValueError, match="not absolute"):
        path_reference(Path("flake"))
