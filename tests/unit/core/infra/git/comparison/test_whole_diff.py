"""Diffs in whole blocks, which need no comparison of lines."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.git.repository import Repository
from tests.unit.core.infra.git.builders import PERSON

LIMIT = 1_000_000


def write(repository: Repository, files: dict[str, bytes], *parents: str) -> str:
    return repository.write_commit(files, parents=list(parents), author=PERSON, when=1_700_000_200, message="x")


def applied(diff: str, files: dict[str, bytes], place: Path) -> dict[str, bytes]:
    """Apply a diff with git to plain files, and return them as they are then."""
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    subprocess.run(["git", "init", "-q", place], check=True)
    command = ["git", "apply", "--unidiff-zero", "--whitespace=nowarn", "-"]
    subprocess.run(command, cwd=place, input=diff.encode(), check=True)
    found = (path for path in place.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(place)): path.read_bytes() for path in found}


def some_text(source: random.Random) -> bytes:
    lines = b"".join(source.choice((b"a", b"b", b"", b"long line")) + b"\n" for _ in range(source.randrange(8)))
    return lines + source.choice((b"", b"", b"no newline"))


@pytest.mark.parametrize("seed", range(25))
def test_a_diff_leads_from_one_commit_to_the_other(repository: Repository, tmp_path: Path, seed: int) -> None:
    """git applies it to the old files and gets the new ones: nothing is left out, whatever changed."""
    source = random.Random(seed)
    old, new = ({f"f{n}": some_text(source) for n in source.sample(range(6), 4)} for _ in range(2))
    first = write(repository, old)
    second = write(repository, new, first)
    diff = repository.whole_diff(first, second, LIMIT)
    assert diff.size == len(diff.text.encode())
    assert [(file.path, file.change) for file in diff.files] == [
        (file.path, file.change) for file in repository.diff(first, second, LIMIT).files
    ]
    if old == new:
        assert diff.text == ""
        return
    assert applied(diff.text, old, tmp_path / "files") == new


def test_only_what_differs_is_shown(repository: Repository) -> None:
    """Lines before the first and after the last difference are not part of the block."""
    lines = [b"line %d\n" % number for number in range(1_000)]
    first = write(repository, {"a": b"".join(lines)})
    lines[500:502] = [b"other\n"]
    second = write(repository, {"a": b"".join(lines)}, first)
    diff = repository.whole_diff(first, second, LIMIT)
    assert diff.text.splitlines()[4:] == ["@@ -501,2 +501,1 @@", "-line 500", "-line 501", "+other"]


def test_a_diff_from_nothing_and_a_binary_file(repository: Repository) -> None:
    """New files are shown as added, also one with a NUL, which is marked; odd names are quoted."""
    commit = write(repository, {"a": b"1\n2", "b": b"\0", "é\n": b""})
    shown = repository.whole_diff(None, commit, LIMIT)
    diff = shown.text
    assert "--- /dev/null\n+++ b/a\n@@ -0,0 +1,2 @@\n+1\n+2\n\\ No newline at end of file\n" in diff
    assert "+++ b/b\n@@ -0,0 +1,1 @@\n+\0\n" in diff
    assert [file.is_text for file in shown.files] == [True, False, True]
    assert "diff --git a/\\303\\251\\012 b/\\303\\251\\012\n" in diff
    cut = repository.whole_diff(None, commit, 100)
    assert (cut.text, cut.size, cut.cut) == ("", shown.size, True)


def test_the_first_files_and_the_shares_are_those_of_every_diff(repository: Repository) -> None:
    """agent.nix comes first and long files leave room for the others, as in a diff of git's."""
    long = b"a line\n" * 50_000
    commit = write(repository, {"0": long, "agent.nix": b"{ }\n", "prompt.md": long, "z": b"short\n"})
    shown = repository.whole_diff(None, commit, 16 * 1024)
    assert [file.path for file in shown.files] == ["agent.nix", "prompt.md", "0", "z"]
    assert "+{ }\n" in shown.text and "+short\n" in shown.text and len(shown.text.encode()) <= 16 * 1024


def test_what_git_cannot_compare_in_time_is_shown_in_blocks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rewrite of 2.4 MB in lines of one letter takes git ten seconds: it is stopped, and the blocks take one."""
    monkeypatch.setattr("hive_core.infra.git.trees.DIFF_SECONDS", 0.5)
    source = random.Random(1)
    old, new = (b"".join(source.choice((b"a\n", b"b\n")) for _ in range(1_200_000)) for _ in range(2))
    first = write(repository, {"a": old})
    second = write(repository, {"a": new}, first)
    with pytest.raises(HiveError) as slow:
        repository.diff(first, second, 64 * 1024)
    assert slow.value.code == "git_slow"
    began = time.process_time()
    diff = repository.whole_diff(first, second, 64 * 1024)
    assert time.process_time() - began < 5
    assert 63 * 1024 < len(diff.text) <= 64 * 1024
    assert diff.size > (len(old) + len(new)) * 1.4
