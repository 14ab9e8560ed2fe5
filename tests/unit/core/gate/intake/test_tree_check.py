"""What a configuration may consist of, and on which line of agent.toml a fault is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.gate.intake.agent_toml import parse_config
from hive_core.gate.intake.tree_check import TreeListing, check_name, check_sizes, parse_prompt

SHA = "ab" * 20


def tree(*entries: tuple[str, str]) -> bytes:
    """A tree of (mode, name)."""
    return b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(SHA) for mode, name in entries)


def refused(code: str, run: Any, *arguments: Any) -> str:
    with pytest.raises(HiveError) as error:
        run(*arguments)
    assert error.value.code == code and error.value.hint
    assert error.value.message.isprintable()
    return error.value.message


def test_listing_of_plain_files() -> None:
    """Files are listed with their paths, directories are given back to be read."""
    listing = TreeListing(10)
    assert listing.add("", tree(("100644", "a"), ("40000", "d"), ("100755", "ü b"))) == [("d", SHA)]
    assert listing.add("d", tree(("100644", "c"))) == []
    assert sorted(listing.files) == ["a", "d/c", "ü b"]


@pytest.mark.parametrize("mode", ["120000", "160000", "100664", "100600", "040000", "0", "20644"])
def test_other_modes_are_refused(mode: str) -> None:
    """Nothing but plain files and directories is taken, in the one way in which git writes them."""
    assert "'x'" in refused("bad_tree", TreeListing(10).add, "", tree((mode, "x")))


def test_counts() -> None:
    """As many files and as many directories as are allowed are taken, and not one more."""
    files = [("100644", str(n)) for n in range(3)]
    TreeListing(3).add("", tree(*files, *(("40000", f"d{n}") for n in range(3))))
    refused("too_many_files", TreeListing(2).add, "", tree(*files))
    refused("too_many_files", TreeListing(2).add, "", tree(*(("40000", name) for _, name in files)))


def test_needed_files() -> None:
    """Files that make a configuration must be at the top, as files."""
    listing = TreeListing(10)
    listing.add("", tree(("100644", "agent.nix"), ("40000", "agent.toml")))
    listing.add("sub", tree(("100644", "prompt.md")))
    assert "agent.toml and no file prompt.md" in refused("bad_tree", listing.check_complete)


@pytest.mark.parametrize(
    "damaged", [b"x", b"100644", b"100644 a\0", b"100644 a\0" + bytes(19), b" a\0" + bytes(20), b"100644 \0" + bytes(9)]
)
def test_damaged_trees(damaged: bytes) -> None:
    """What is no tree is refused, and not read past its end."""
    refused("bad_tree", TreeListing(10).add, "", damaged)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_tree(data: bytes) -> None:
    """Whatever comes as a tree is listed or refused."""
    try:
        TreeListing(5).add("", data)
    except HiveError as error:
        assert error.code in {"bad_tree", "too_many_files"}


BAD_NAMES = [
    *(
        "",
        ".",
        "..",
        "a/b",
        "a\n",
        "\x1b[2J",
        "a\x7f",
        "a\u200b",
        "\u202egnp",
        "\u3164",
        "a\ufe0f",
        "a\u00a0b",
        "\ufeffa",
    ),
    *(
        "x.",
        "x ",
        ".git",
        ".GIT",
        ".Git",
        "git~1",
        "GIT~2",
        ".git::$INDEX_ALLOCATION",
        ".git\\x",
        ".git . ",
        "\uff0egit",
    ),
    *(".g\u200cit", "\U000e0041", "\ud7ff\uffff"),
    *(".gitattributes", ".GITATTRIBUTES", "\uff0egitattributes", ".gitattributes.", ".gitattributes::$DATA"),
    *("GITATT~1", "gi7d29~2", ".gitmodules", "gi7eba~1", "gitmod~1", ".lfsconfig", "LFSCON~1", ".mailmap", "maba30~1"),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_names(name: str) -> None:
    """Names that mislead a person or a program are refused, and shown without their effect."""
    refused("bad_tree", check_name, "dir", name.encode())


@pytest.mark.parametrize(
    "name", ["a", ".gitignore", "gitattributes", "git", "größe", "日本語", "a b", "-x", "...x", "~", "e\u0301"]
)
def test_good_names(name: str) -> None:
    """Ordinary names in any language are taken."""
    assert check_name("", name.encode()) == name
    assert check_name("d/e", name.encode()) == f"d/e/{name}"


def test_lengths_and_depth() -> None:
    """Names, paths and depth are taken up to their limits, and not beyond."""
    assert len(check_name("", b"n" * 255)) == 255
    refused("bad_tree", check_name, "", b"n" * 256)
    refused("bad_tree", check_name, "", "ü".encode() * 128)
    assert len(check_name("d" * 799, b"n" * 200)) == 1_000
    refused("bad_tree", check_name, "d" * 800, b"n" * 200)
    assert check_name("/".join("d" * 31), b"n")
    refused("bad_tree", check_name, "/".join("d" * 32), b"n")
    refused("bad_tree", check_name, "", b"\xff")


def test_sizes() -> None:
    """The limit is for each file and for all together."""
    check_sizes({"a": 60, "b": 40}, 100)
    assert "'b' has 101 bytes" in refused("too_large", check_sizes, {"a": 0, "b": 101}, 100)
    assert "101 bytes together" in refused("too_large", check_sizes, {"a": 61, "b": 40}, 100)


def test_prompts() -> None:
    """A prompt is UTF-8 of at most 100,000 characters, however many bytes those are."""
    assert parse_prompt("ü".encode() * 100_000) == "ü" * 100_000
    assert "100,001" in refused("bad_prompt", parse_prompt, b"x" * 100_001)
    assert "line 3" in refused("bad_prompt", parse_prompt, b"a\nb\n\xff")
    assert "line 2" in refused("bad_prompt", parse_prompt, b"a\n\0")


TOML_FAULTS = [
    ("turn_timeout = 100_000", "agent.toml: turn_timeout: it may be at most 86,400"),
    ("# a\n\nmodle = 'x'\n", "agent.toml: modle: there is no such key"),
    ("tools = [\n  'a',\n  'b', # c\n  3,\n]", "agent.toml: tools[2]: it must be a text"),
    ("tools = [\n  'a',\n  '''\nx''',\n  {x = 3}]", "agent.toml: tools[2]: it must be a text"),
    (
        'model = """\na\n"""\n"tasks_max" = 1',
        "agent.toml: tasks_max: it must be at least 16",
    ),
    (
        "[[script]]\n[[script]]\nthink = 99",
        "agent.toml: script[1].think: it may be at most 60",
    ),
    (
        "[[script]]\n[[script.send]]\nto='a'\ntext='b'\n[[script.send]]\n\nto='b'",
        "agent.toml: script[0].send[1].text: it is missing",
    ),
    (
        "script = [{ send = [\n{to = 'a', text = 'b'},\n{to = '%', text = 'b'}] }]",
        "agent.toml: script[0].send[1].to: it must be the name of an agent, operator, * or @ and a label",
    ),
    ("[x]\ny = 1", "agent.toml: x: there is no such key"),
    ("a.b.c = 1", "agent.toml: a: there is no such key"),
    ('"\\u001b[2J" = 1', r"agent.toml: '\x1b[2J': there is no such key"),
    (
        "model = 3\nmodle = 4",
        "agent.toml: model: it must be a text; modle: there",
    ),
    ("a = 1\nb = 1\nc = 1\nd = 1\ne = 1\nf = 1\ng = 1", "; e: there is no such key; and 2 more"),
    ("model = 'x'\r\n\r\nbackend =\r\n", "agent.toml, line 3: Invalid value"),
    ("model = 'x'\nmodel = 'y'", "agent.toml, line 2: model is there already, in line 1: remove one of the two"),
    ("script = []\n\n[[script]]\nwhen = 'x'", "agent.toml, line 3: script is there already, in line 1: remove one"),
    ("[budget]\n[budget]", "agent.toml, line 2: budget is there already, in line 1: remove one of the two"),
    ("model = 'x", "agent.toml, line 1: Expected"),
    ("x = 1979-13-01", "agent.toml, line 1: "),
    ("x = " + "9" * 10_000, "agent.toml: Exceeds the limit"),
    ("x = " + "[" * 30_000, "agent.toml: arrays or tables are nested too deeply"),
    ("x = " + "[" * 400 + "]" * 400, "agent.toml: x: there is no such key"),
    (".".join("a" * 64) + " = 1", "agent.toml: a: there is no such key"),
    ("\n" + ".".join("a" * 30_000) + " = 1", "agent.toml, line 2: more than 64 names are joined by dots"),
    ("[" + '\'a\' . "\\"".' * 5_000 + "x]", "agent.toml, line 1: more than 64 names are joined by dots"),
    ("".join(f"k{n}=1\n" for n in range(8_000)), "agent.toml: k0: there is no such key"),
    ("turn_timeout = nan", "agent.toml: turn_timeout: it may be at most 86,400"),
    ("#" + "x" * 70_000, "agent.toml has 70,001 bytes, at most 65,536 are allowed"),
]


@pytest.mark.parametrize(("text", "words"), TOML_FAULTS, ids=range(len(TOML_FAULTS)))
def test_faults_of_agent_toml(text: str, words: str) -> None:
    """A wrong value is named with the path of its key, a fault of the syntax with its line."""
    assert words in refused("bad_agent_toml", parse_config, text.encode())


def test_agent_toml_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are named with their line."""
    assert "line 2: not valid UTF-8" in refused("bad_agent_toml", parse_config, b"a = 1\n# \xff")


def test_good_agent_toml() -> None:
    """A good document gives the settings; what it does not say is as by default."""
    config = parse_config(b'model = "m"\r\nturn_timeout = 5\r\n[[script]]\r\nmatch = "x"\r\n')
    assert (config.model, config.turn_timeout, config.script[0].match, config.backend) == ("m", 5, "x", "scripted")
