"""Where a text stops being Nix."""

from __future__ import annotations

import pytest

from hive_core.runtimes.local.nix_syntax import problem


@pytest.mark.parametrize(
    "source",
    [
        "{ }",
        "{ pkgs, lib, ... }@args: with lib; { a.b = ''\n  ${pkgs.git}/bin\n''; }\n",
        "# only this:\n{ x = 1; }",
        "1",
        "{\n  pkgs,\n  lib, # what is this for?\n  /* nothing */\n}:\n{ }",
        "{ a ? b, }@all: all",
        'all@{ a, }: "${{ b, }: b} , }:"',
    ],
)
def test_nix_is_well(source: str) -> None:
    """What is Nix is not complained about."""
    assert problem(source.encode()) is None


@pytest.mark.parametrize(
    ("source", "place", "what"),
    [
        ("{\n  a = 1\n  b = 2;\n}", (3, 5), "unexpected '='"),
        ("{ a = [ pkgs.git \n}", (2, 1), "unexpected '}'"),
        ("{ a = 1;", (1, 9), "unexpected end of the file"),
        ("", (1, 1), "unexpected end of the file"),
        ("# nothing\n", (2, 1), "unexpected end of the file"),
        ("{ ü = 1; }", (1, 3), "unexpected 'ü'"),
        ('{ a = "üü"; b c; }', (1, 15), "unexpected 'c'"),
        ("{ } }", (1, 5), "unexpected '}'"),
        ("a@\x00b", (1, 3), "unexpected"),
        ("{ a, b, }:\n{ a = 1 }", (2, 9), "unexpected '}'"),
        ("{ a, ..., }: a", (1, 9), "unexpected ','"),
        ("{ , }: 1", (1, 3), "unexpected ','"),
        ("{ a = 1; , }", (1, 10), "unexpected ','"),
        ("\ufeff{ }", (1, 1), "byte order mark"),
    ],
)
def test_the_place_is_where_a_person_would_look(source: str, place: tuple[int, int], what: str) -> None:
    """The error is told at the first thing that does not fit; columns are characters, not bytes."""
    found = problem(source.encode())
    assert found is not None
    assert ((found.line, found.column), found.what) == (place, found.what)
    assert what in found.what


def test_what_is_not_text() -> None:
    """A file that is not UTF-8 is refused at its first wrong byte."""
    found = problem(b"{ a = 1;\n b = \xff; }")
    assert found is not None
    assert (found.line, found.column, found.what) == (2, 6, "this is not UTF-8 text")


def test_the_line_is_shown_without_tricks() -> None:
    """What is shown of the file is short, and holds nothing that moves a terminal's cursor."""
    found = problem(b"{ a = \x1b[2J" + b"x" * 1_000 + b"; }")
    assert found is not None
    assert "\x1b" not in str(found)
    assert max(len(line) for line in found.text.splitlines()) < 200
