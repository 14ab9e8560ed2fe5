"""Commits and what is in them: trees, reading with limits, differences, and copies."""

from __future__ import annotations

import stat
import time
import tracemalloc
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.git import command as git_command
from hive_core.infra.git import trees
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import FileView, Repository
from tests.unit.core.infra.git.builders import FILES, PERSON, Plain, plant, tag


def tree(plain: Plain, *lines: str) -> str:
    """Make a tree out of `mode kind sha<tab>name` lines, as hostile as they may be."""
    return plain("mktree", "--missing", feed="".join(f"{line}\n" for line in lines).encode()).strip()


def committed(plain: Plain, top: str) -> str:
    return plain("commit-tree", top, "-m", "x").strip()


def next_commit(repository: Repository, parent: str, files: dict[str, bytes]) -> str:
    return repository.write_commit(files, parents=[parent], author=PERSON, when=1_700_000_200, message="next")


def test_a_commit_is_what_git_would_make(repository: Repository, commit: str, plain: Plain) -> None:
    """Trees are sorted git's way, authors and messages stand as given, and fsck is content."""
    assert plain("fsck", "--strict", "--full") == ""
    listed = plain("ls-tree", "-r", "--name-only", commit).splitlines()
    assert listed == ["agent.nix", "agent.toml", "lib.nix", "lib/deep/x.nix"]
    assert plain("log", "-1", "--format=%an %ae %at %s", commit).strip() == "ada ada@hive 1700000000 first"
    assert repository.tree(commit) == plain("rev-parse", f"{commit}^{{tree}}").strip()


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/./b", ".git/config", "x/.GIT", "a\0b", "agent.nix/x"])
def test_a_commit_of_odd_paths_is_refused(repository: Repository, path: str) -> None:
    """A path that could leave the tree, or be taken for git's own, is `bad_tree`."""
    with pytest.raises(HiveError) as refused:
        repository.write_commit({"agent.nix": b"", path: b""}, parents=[], author=PERSON, when=1, message="m")
    assert refused.value.code == "bad_tree"


def test_entries_tell_what_is_there(repository: Repository, commit: str, plain: Plain) -> None:
    """Every file with its mode, kind, object and size; links and submodules as what they are; odd names whole."""
    blob = plain("hash-object", "-w", "--stdin", feed=b"12345").strip()
    odd = committed(
        plain, tree(plain, f"100755 blob {blob}\trun", f"120000 blob {blob}\tlink", f"160000 commit {commit}\tsub")
    )
    found = {entry.path: (entry.mode, entry.kind, entry.sha, entry.size) for entry in repository.entries(odd, 10)}
    assert found == {
        "run": ("100755", "blob", blob, 5),
        "link": ("120000", "blob", blob, 5),
        "sub": ("160000", "commit", commit, 0),
    }
    named = committed(plain, tree(plain, f'100644 blob {blob}\t"new\\nline\\377"'))
    assert [entry.path for entry in repository.entries(named, 10)] == ["new\nline\udcff"]


def test_entries_stop_at_their_limit(repository: Repository, commit: str) -> None:
    """As many files as allowed are listed, one more is refused."""
    assert len(repository.entries(commit, len(FILES))) == len(FILES)
    with pytest.raises(HiveError) as refused:
        repository.entries(commit, len(FILES) - 1)
    assert refused.value.code == "too_many_files"


@pytest.mark.parametrize("bottom", ["file", "nothing"])
def test_a_tree_bomb_is_stopped(repository: Repository, plain: Plain, bottom: str) -> None:
    """Ten trees that stand for ten thousand million paths, with files at the end or without: refused at once."""
    blob = plain("hash-object", "-w", "--stdin", feed=b"x").strip()
    inner = tree(plain, *([f"100644 blob {blob}\tx"] if bottom == "file" else []))
    for _ in range(10):
        inner = tree(plain, *[f"040000 tree {inner}\td{number}" for number in range(10)])
    bomb = committed(plain, inner)
    began = time.monotonic()
    with pytest.raises(HiveError) as refused:
        repository.entries(bomb, 1_000)
    assert refused.value.code == "too_many_files"
    assert time.monotonic() - began < 20


def test_a_path_longer_than_any_file_can_have_is_refused(repository: Repository, plain: Plain) -> None:
    """A record that does not end is `bad_tree`, not memory."""
    blob = plain("hash-object", "-w", "--stdin", feed=b"x").strip()
    odd = committed(plain, tree(plain, f"100644 blob {blob}\t{'n' * 100_000}"))
    with pytest.raises(HiveError) as refused:
        repository.entries(odd, 10)
    assert refused.value.code == "bad_tree"


def test_reading_a_file(repository: Repository, commit: str) -> None:
    """Content, None for what is no file, and `too_large` beyond the limit; never a part of it."""
    assert repository.read(commit, "lib/deep/x.nix", 2) == b"1\n"
    for path in ("gone", "lib", "", "lib/deep/x.nix/y", "a\nb", "../x", "a\0b"):
        assert repository.read(commit, path, 100) is None
    with pytest.raises(HiveError) as refused:
        repository.read(commit, "lib/deep/x.nix", 1)
    assert refused.value.code == "too_large"
    with pytest.raises(HiveError):
        repository.read("main", "lib.nix", 100)


def test_a_huge_file_is_not_read(repository: Repository, commit: str) -> None:
    """Memory does not grow with a file that is over the limit, nor with a diff that is."""
    big = next_commit(repository, commit, {**FILES, "big": b"line of text\n" * 1_000_000})
    tracemalloc.start()
    try:
        with pytest.raises(HiveError):
            repository.read(big, "big", 1_000)
        shown = repository.diff(commit, big, 10_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(shown.text) <= 10_000 < 13_000_000 < shown.size
    assert peak < 2_000_000


def test_a_commit_that_is_not_there(repository: Repository) -> None:
    """`no_such_commit` for its tree, and an error for its ancestry; nothing is guessed."""
    with pytest.raises(HiveError) as refused:
        repository.tree("1" * 40)
    assert refused.value.code == "no_such_commit"
    with pytest.raises(HiveError):
        repository.descends("1" * 40, "2" * 40)


def test_descent(repository: Repository, commit: str) -> None:
    """A commit descends from itself and those before it, and from nothing else."""
    second = next_commit(repository, commit, {"a": b"1"})
    other = repository.write_commit({"a": b"1"}, parents=[], author=PERSON, when=1, message="other")
    assert repository.descends(second, commit) and repository.descends(commit, commit)
    assert not repository.descends(commit, second) and not repository.descends(other, commit)


def test_differences(repository: Repository, commit: str) -> None:
    """Paths and text tell what was added, removed and changed; a rename is both."""
    files = {"agent.nix": b"{ new }\n", "moved.toml": FILES["agent.toml"], "lib.nix": FILES["lib.nix"]}
    second = next_commit(repository, commit, files)
    assert repository.changed_paths(commit, second) == ["agent.nix", "agent.toml", "lib/deep/x.nix", "moved.toml"]
    assert sorted(repository.changed_paths(None, commit)) == sorted(FILES)
    assert repository.changed_paths(commit, commit) == []
    diff = repository.diff(commit, second, 100_000)
    assert "-{ }\n+{ new }\n" in diff.text and "+++ b/moved.toml" in diff.text
    assert diff.size == len(diff.text.encode()) and not diff.cut
    assert [(file.path, file.change) for file in diff.files] == [
        ("agent.nix", "changed"),
        ("agent.toml", "removed"),
        ("lib/deep/x.nix", "removed"),
        ("moved.toml", "added"),
    ]
    none = repository.diff(commit, second, 50)
    assert (none.text, none.size, none.cut) == ("", diff.size, True)
    assert [file.path for file in none.files] == [file.path for file in diff.files]


def test_the_diff_of_one_file(repository: Repository, commit: str) -> None:
    """One file is compared alone: with as much context as is asked for, white space as chosen, and no pattern in it."""
    lines = [f"line {number}\n".encode() for number in range(50)]
    before = {"*": b"all\n", "a": b"".join(lines), "b": b"x\n"}
    changed = {"*": b"ALL\n", "a": b"".join([*lines[:25], b"  line 25\n", *lines[26:]]), "b": b"y\n", "c/d": b"new\n"}
    first = next_commit(repository, commit, before)
    second = next_commit(repository, first, changed)
    assert [file.path for file in repository.diff(first, second, 10_000, view=FileView("*")).files] == ["*"]
    shown = repository.diff(first, second, 10_000, view=FileView("a"))
    assert [file.path for file in shown.files] == ["a"]
    assert "@@ -23,7 +23,7 @@" in shown.text
    whole = repository.diff(first, second, 10_000, view=FileView("a", context=1_000)).text
    assert all(f"line {number}\n" in whole for number in range(50))
    blank = repository.diff(first, second, 10_000, view=FileView("a", ignore_whitespace=True))
    assert (blank.text, blank.files) == ("", [])
    assert "+new" in repository.diff(first, second, 10_000, view=FileView("c/d", ignore_whitespace=True)).text
    assert repository.whole_diff(first, second, 10_000, path="b").text.endswith("-x\n+y\n")


def test_a_change_cannot_hide_from_the_diff(repository: Repository, commit: str, plain: Plain) -> None:
    """What a .gitattributes file in the repository says, deployed or proposed, does not matter to the diff."""
    hiding = {**FILES, ".gitattributes": b"* -diff\n*.nix binary\n"}
    first = next_commit(repository, commit, hiding)
    repository.update([RefChange("refs/heads/main", first, commit)])
    second = next_commit(repository, first, {**hiding, "agent.nix": b"{ evil }\n"})
    assert "+{ evil }" in repository.diff(first, second, 10_000).text


def test_attributes_and_settings_of_the_repository_do_not_change_the_diff(
    repository: Repository, commit: str, plain: Plain, tmp_path: Path
) -> None:
    """Neither can hide a file, reorder it, compare it in another way, or have a program called."""
    lines = [b"%d\n" % number for number in range(40)]
    first = next_commit(repository, commit, {**FILES, "agent.nix": b"".join(lines), "z.bin": b"1\n\0"})
    second = next_commit(repository, first, {**FILES, "agent.nix": b"".join(lines[::-1]), "z.bin": b"2\n\0"})
    before = repository.diff(first, second, 100_000)
    called = tmp_path / "called"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {called}\n")
    program.chmod(0o755)
    (tmp_path / "order").write_text("z.bin\n")
    for name, value in {
        "diff.x.command": str(program),
        "diff.x.textconv": str(program),
        "diff.x.binary": "true",
        "diff.x.algorithm": "patience",
        "diff.algorithm": "patience",
        "diff.external": str(program),
        "diff.context": "0",
        "diff.interHunkContext": "50",
        "diff.orderFile": str(tmp_path / "order"),
        "diff.noprefix": "true",
        "core.bigFileThreshold": "1",
    }.items():
        plain("config", name, value)
    (repository.path / "info").mkdir(exist_ok=True)
    (repository.path / "info/attributes").write_text("* -diff diff=x -text working-tree-encoding=UTF-16\n")
    assert repository.diff(first, second, 100_000) == before
    assert before.text.startswith("diff --git a/agent.nix b/agent.nix\n") and "-1\n\0" not in before.text
    assert "-1\n" in before.text and "+2\n" in before.text
    assert [(file.path, file.is_text) for file in before.files] == [("agent.nix", True), ("z.bin", False)]
    assert not called.exists()


def test_a_diff_is_counted_only_so_far(repository: Repository, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far beyond the limit git is stopped, and the number stands for at least so many."""
    monkeypatch.setattr(trees, "COUNTED", 1_000)
    big = next_commit(repository, commit, {**FILES, "big": b"line of text\n" * 500_000})
    assert 2_000 < repository.diff(commit, big, 1_000).size < 1_000_000


def test_a_command_has_limited_time(repository: Repository) -> None:
    """A git that does not end is killed and told as `git_slow`."""
    endless = git_command.run_in_background(repository.path, "-c", "alias.wait=!sleep 60", "wait", seconds=0.2)
    with pytest.raises(HiveError) as refused, endless as command:
        list(command.chunks())
    assert refused.value.code == "git_slow"


def test_a_full_disk_is_told(repository: Repository) -> None:
    """git's own words for it become `disk_full`."""
    assert git_command.failure(["gc"], 128, "fatal: write error: No space left on device").code == "disk_full"


def test_a_clone_stands_alone(repository: Repository, commit: str, plain: Plain, tmp_path: Path) -> None:
    """`main` is checked out; there is no remote, hook, alternate, shared file, tag or object that it does not need."""
    secret = repository.write_commit({"s": b"denied"}, parents=[], author=PERSON, when=1, message="denied")
    plant(repository, tag("denied/1", secret))
    path = tmp_path / "agents" / "ada" / "config"
    path.mkdir(parents=True)
    repository.clone_to(path)
    assert {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*") if _own(file, path)} == FILES
    assert plain("status", "--porcelain", "--branch", where=path).strip() == "## main"
    assert plain("rev-parse", "main", where=path).strip() == commit
    assert (plain("remote", where=path), plain("tag", where=path)) == ("", "")
    assert str(repository.path) not in (path / ".git/config").read_text()
    assert not (path / ".git/hooks").exists() and not (path / ".git/objects/info/alternates").exists()
    assert all(file.stat().st_nlink == 1 for file in (path / ".git").rglob("*") if file.is_file())
    assert secret not in plain("cat-file", "--batch-all-objects", "--batch-check", where=path)
    assert [each.name for each in path.parent.iterdir()] == ["config"]


def _own(file: Path, path: Path) -> bool:
    return file.is_file() and ".git" not in file.relative_to(path).parts


def test_a_clone_may_start_at_any_commit(repository: Repository, commit: str, plain: Plain, tmp_path: Path) -> None:
    """`main` of the clone is the commit asked for, whether or not a ref holds it."""
    second = next_commit(repository, commit, {"a": b"1"})
    repository.clone_to(tmp_path / "config", second)
    assert plain("rev-parse", "main", where=tmp_path / "config").strip() == second
    assert repository.main() == commit


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_a_clone_replaces_nothing(repository: Repository, tmp_path: Path, kind: str) -> None:
    """What an earlier agent left stays as it is, and links are not followed."""
    path, elsewhere = tmp_path / "config", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "file":
        path.touch()
    elif kind == "link":
        path.symlink_to(elsewhere)
    else:
        path.mkdir()
        (path / "kept").touch()
    with pytest.raises(HiveError) as refused:
        repository.clone_to(path)
    assert refused.value.code == "clone_in_the_way"
    assert list(elsewhere.iterdir()) == []


def test_what_a_killed_clone_left_is_replaced(repository: Repository, tmp_path: Path) -> None:
    """A half-made copy beside the place does not disturb the next."""
    (tmp_path / ".config.new" / ".git").mkdir(parents=True)
    (tmp_path / ".config.new" / ".git" / "HEAD").touch()
    repository.clone_to(tmp_path / "config")
    assert (tmp_path / "config" / "agent.nix").read_bytes() == FILES["agent.nix"]
    assert not (tmp_path / ".config.new").exists()


def test_extracting_writes_the_files_as_they_are(
    repository: Repository, commit: str, plain: Plain, tmp_path: Path
) -> None:
    """Bytes and the executable bit are kept, attributes have no effect."""
    files = {
        **FILES,
        ".gitattributes": b"* text eol=crlf ident\n",
        "id.nix": b"$Id$\n",
        "big": bytes(range(256)) * 2_000,
    }
    second = next_commit(repository, commit, files)
    repository.extract(second, tmp_path / "out")
    out = tmp_path / "out"
    assert {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()} == files
    blob = plain("hash-object", "-w", "--stdin", feed=b"#!/bin/sh\n").strip()
    repository.extract(committed(plain, tree(plain, f"100755 blob {blob}\trun")), tmp_path / "two")
    assert (tmp_path / "two" / "run").stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("odd", ["120000 blob {blob}\tlink", "160000 commit {sub}\tsub", "040000 tree {dots}\td"])
def test_extracting_refuses_more_than_plain_files(
    repository: Repository, plain: Plain, tmp_path: Path, odd: str
) -> None:
    """Links, submodules and paths that leave the tree are refused before a file is written."""
    blob = plain("hash-object", "-w", "--stdin", feed=b"/etc/shadow").strip()
    raw = b"100644 ..\0" + bytes.fromhex(blob)
    dots = plain("hash-object", "-t", "tree", "-w", "--stdin", "--literally", feed=raw).strip()
    hostile = committed(plain, tree(plain, f"100644 blob {blob}\tfine", odd.format(blob=blob, dots=dots, sub="1" * 40)))
    with pytest.raises(HiveError) as refused:
        repository.extract(hostile, tmp_path / "out")
    assert refused.value.code == "bad_tree"
    assert not (tmp_path / "out").exists()


def test_extracting_does_not_write_into_what_is_there(repository: Repository, commit: str, tmp_path: Path) -> None:
    """The directory has to be new."""
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        repository.extract(commit, tmp_path / "out")
