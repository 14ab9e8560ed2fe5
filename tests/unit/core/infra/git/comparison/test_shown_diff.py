"""The shown part of a diff: the order of its files, the sharing of its space, and the files that have no room."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.infra.git.comparison.shown_diff import DiffSpace, ShownDiff, share_evenly, split_files
from hive_core.infra.git.repository import Repository
from tests.unit.core.infra.git.builders import FILES, PERSON, Plain

LIMIT = 16 * 1024


def diff_between(repository: Repository, old: dict[str, bytes], new: dict[str, bytes], limit: int = LIMIT) -> ShownDiff:
    """The diff of two commits of these files beside those that every configuration has."""
    first = repository.write_commit({**FILES, **old}, parents=[], author=PERSON, when=1, message="a")
    second = repository.write_commit({**FILES, **new}, parents=[first], author=PERSON, when=2, message="b")
    return repository.diff(first, second, limit)


@pytest.fixture
def empty(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "ada.git")


def shown_of(diff: ShownDiff) -> dict[str, tuple[int, bool]]:
    """Return the shown bytes of each file, and True with them if that is all."""
    return {file.path: (file.shown, file.shown == file.size) for file in diff.files}


LONG = b"a line of a long file\n" * 50_000


def test_the_order_is_the_hives(empty: Repository) -> None:
    """agent.nix, agent.toml and prompt.md come first, whatever sorts before them; a directory of that name does not."""
    names = [".a", "0/agent.nix", "A", "agent.nix", "agent.toml", "prompt.md", "agent.nix.d/x", "sub/prompt.md", "z"]
    diff = diff_between(empty, {}, dict.fromkeys(names, b"new\n"))
    order = [file.path for file in diff.files]
    assert order[:3] == ["agent.nix", "agent.toml", "prompt.md"]
    assert order[3:] == sorted(set(names) - set(order[:3]))
    heads = [line for line in diff.text.splitlines() if line.startswith("diff --git")]
    assert heads == [f"diff --git a/{name} b/{name}" for name in order]


def test_a_long_file_does_not_push_others_out(empty: Repository) -> None:
    """With files of a megabyte that sort first, agent.nix and the other short files are shown whole."""
    long = {f"0{name}": LONG for name in range(5)}
    diff = diff_between(empty, {}, {**long, "agent.nix": b"{ evil }\n", "zz.nix": b"{ worse }\n"})
    assert "+{ evil }\n" in diff.text and "+{ worse }\n" in diff.text
    shown = shown_of(diff)
    assert shown["agent.nix"][1] and shown["zz.nix"][1]
    assert all(shown[name][0] > 2_000 and not shown[name][1] for name in long)
    assert LIMIT - 1_000 < len(diff.text.encode()) <= LIMIT
    assert diff.size > 5_000_000 and diff.cut


def test_a_long_agent_nix_hides_no_other_change(empty: Repository) -> None:
    """agent.nix takes half of the space where others need the rest, and all that they leave where they do not."""
    diff = diff_between(empty, {}, {"agent.nix": LONG, "agent.toml": LONG, "prompt.md": LONG, "lib.nix": b"{ }\n"})
    shown = shown_of(diff)
    assert shown["agent.nix"][0] > LIMIT // 2 - 200
    assert shown["agent.toml"][0] > 3_500 and shown["prompt.md"][0] > 1_500 and shown["lib.nix"][1]
    alone = diff_between(empty, {}, {"agent.nix": LONG})
    assert shown_of(alone)["agent.nix"][0] > LIMIT - 200


def test_a_cut_is_marked_by_a_line_that_no_file_can_have(empty: Repository) -> None:
    """The line stands where the file's diff ends; a line of the file begins with another character."""
    forged = b"[cut: 1 of 1 bytes of this file's diff are shown]\ndiff --git a/x b/x\n"
    diff = diff_between(empty, {}, {"agent.nix": forged + LONG, "prompt.md": b"short\n"})
    cuts = [line for line in diff.text.splitlines() if line.startswith("[cut: ")]
    (file,) = [file for file in diff.files if file.path == "agent.nix"]
    assert cuts == [f"[cut: {file.shown:,} of {file.size:,} bytes of this file's diff are shown]"]
    assert [one.path for one in diff.files] == ["agent.nix", "prompt.md"]


def test_very_many_files_are_all_named(empty: Repository) -> None:
    """Files for which there is no room are named as not shown, and take no room from agent.nix."""
    many = {f"f{number:04}": LONG[:2_000] for number in range(900)}
    diff = diff_between(empty, {}, {**many, "agent.nix": LONG[:4_000]})
    assert [file.path for file in diff.files] == ["agent.nix", *many]
    assert shown_of(diff)["agent.nix"][1]
    assert all(file.shown == 0 and file.hidden for file in diff.files[1:])
    assert len(diff.text.encode()) <= LIMIT


def test_one_endless_line_is_cut_within(empty: Repository) -> None:
    """A file without newlines shows its beginning, cut between characters."""
    for room in range(LIMIT, LIMIT + 4):
        diff = diff_between(empty, {}, {"agent.nix": "é".encode() * 100_000}, room)
        (line,) = [line for line in diff.text.splitlines() if line.startswith("+é")]
        assert set(line[1:]) == {"é"} and len(line) > 7_000


@pytest.mark.parametrize(
    ("content", "is_text"),
    [
        (b"text\n", True),
        ("ä ö ü\n".encode() * 30_000, True),
        (b"a\0b\n", False),
        (LONG + b"\0", False),
        (LONG + b"\xff\n", False),
        ("é".encode("latin-1"), False),
        ("text".encode("utf-16"), False),
    ],
)
def test_what_is_no_text_is_marked(empty: Repository, content: bytes, is_text: bool) -> None:
    """A NUL or a byte that is not UTF-8, wherever it is and on either side, is told; git's own mark is not used."""
    for old, new in (({}, {"x": content}), ({"x": content}, {"x": b"text now\n"})):
        (file,) = diff_between(empty, old, new).files
        assert (file.path, file.is_text) == ("x", is_text)


def test_a_header_that_git_cuts_does_not_count_as_binary(empty: Repository) -> None:
    """git shows 80 bytes of a line before each change, and cuts it within a character."""
    for padding in range(3):
        old = b"x" * padding + "é".encode() * 100 + b"\n" + b"".join(b" %d\n" % number for number in range(40))
        (file,) = diff_between(empty, {"x": old}, {"x": old + b" new\n"}).files
        assert file.is_text


def test_modes_are_told(repository: Repository, commit: str, plain: Plain) -> None:
    """A file that becomes executable is a change, also if its content stays."""
    listing = plain("ls-tree", commit)
    tree = plain("mktree", feed=listing.replace("100644 blob", "100755 blob", 1).encode()).strip()
    executable = plain("commit-tree", tree, "-m", "x").strip()
    (file,) = repository.diff(commit, executable, LIMIT).files
    assert (file.change, file.hidden) == ("made executable", False)
    (file,) = repository.diff(executable, commit, LIMIT).files
    assert file.change == "made not executable"


@given(st.lists(st.integers(0, 5_000), max_size=30), st.integers(0, 20_000))
def test_shares_fill_the_space(sizes: list[int], room: int) -> None:
    """With the level as the most that each may have, everything fits, and another byte for each would not."""
    level = share_evenly(sizes, room)
    assert sum(min(size, level) for size in sizes) <= room
    if any(size > level for size in sizes):
        assert sum(min(size, level + 1) for size in sizes) > room


DIFFS = st.lists(st.binary(max_size=40).map(lambda body: b"diff --git x\n+" + body.replace(b"\n", b"\n+") + b"\n"))


@given(DIFFS, st.integers(1, 60))
def test_files_are_found_in_any_pieces(diffs: list[bytes], size: int) -> None:
    """However the stream is cut, each file's diff is whole, and no content begins another."""
    stream = b"".join(diffs)
    found: list[bytes] = []
    for begins, piece in split_files(stream[at : at + size] for at in range(0, len(stream), size)):
        if begins:
            found.append(b"")
        found[-1] += piece
    assert found == diffs


@given(st.lists(st.tuples(st.sampled_from(["agent.nix", "a", "b"]), st.integers(1, 3_000)), max_size=40))
def test_a_text_is_never_longer_than_its_space(files: list[tuple[str, int]]) -> None:
    """Whatever the sizes, the text fits, and each file is told of with its size."""
    space = DiffSpace(2_000)
    for path, size in files:
        space.begin(path, "added")
        space.add((b"diff --git\n@@ -0,0 +1 @@\n" + b"+x\n" * 1_000)[:size])
    diff = space.result()
    assert len(diff.text.encode()) <= 2_000
    assert [(file.path, file.size) for file in diff.files] == files
