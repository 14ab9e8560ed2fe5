"""Submissions from repositories of hostile agents, with git confined as on a host with bubblewrap."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from hive_core.errors import HiveError
from hive_core.layout import Layout
from tests.unit.core.work.gate.work_hive import BOB, WorkHive, git, opened

BWRAP = shutil.which("bwrap")


def borrow_from_the_host(hive: WorkHive, _: str) -> None:
    work = hive.layout.work_repository("web") / "objects"
    (hive.clone() / ".git/objects/info/alternates").write_text(f"/repos/web.git/objects\n{work}\n")


def link_the_clone(hive: WorkHive, _: str) -> None:
    place = hive.clone()
    place.rename(place.parent / "elsewhere")
    place.symlink_to(place.parent / "elsewhere")


def link_git(hive: WorkHive, _: str) -> None:
    git_dir = hive.clone() / ".git"
    git_dir.rename(hive.clone() / "real")
    git_dir.symlink_to("real")


def link_alternates(hive: WorkHive, _: str) -> None:
    alternates = hive.clone() / ".git/objects/info/alternates"
    alternates.unlink()
    alternates.symlink_to("/etc/hostname")


def make_alternates_a_pipe(hive: WorkHive, _: str) -> None:
    alternates = hive.clone() / ".git/objects/info/alternates"
    alternates.unlink()
    os.mkfifo(alternates)


def damage_the_commit(hive: WorkHive, sha: str) -> None:
    found = hive.clone() / ".git/objects" / sha[:2] / sha[2:]
    found.chmod(0o644)
    found.write_bytes(b"no object")


REFUSED: dict[str, tuple[Callable[[WorkHive, str], None], set[str]]] = {
    "alternates on the host": (borrow_from_the_host, {"bad_repository"}),
    "clone is a link": (link_the_clone, {"bad_repository"}),
    ".git is a link": (link_git, {"bad_repository"}),
    "alternates is a link": (link_alternates, {"bad_repository"}),
    "alternates is a pipe": (make_alternates_a_pipe, {"bad_repository"}),
    "damaged commit": (damage_the_commit, {"bad_object", "no_such_commit"}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_hostile_clones_are_refused(hive: WorkHive, name: str) -> None:
    """A clone that is no plain repository, or borrows from the host, is refused, and nothing is left of it."""
    spoil, codes = REFUSED[name]
    sha = hive.commit({"a": "1"})
    spoil(hive, sha)
    with pytest.raises(HiveError) as refused:
        await hive.submit(sha)
    assert refused.value.code in codes
    assert await hive.rows() == []
    assert list(hive.layout.scratch.glob("intake-*/pack/*")) == []


async def test_nothing_of_the_clone_is_run(layout: Layout) -> None:
    """Hooks, filters, settings and attributes of the clone start nothing and hide no change from the diff."""
    assert BWRAP
    async with opened(layout, bwrap=BWRAP) as hive:
        mark = layout.state_dir / "ran"
        place = hive.clone()
        attributes = "* -diff filter=evil merge=evil -text\n*.py binary\n"
        sha = hive.commit({".gitattributes": attributes, "app.py": "import os\n", "logo": b"\0\1"})
        (place / ".git/config").write_text(
            f"[core]\n\trepositoryformatversion = 0\n\tfsmonitor = touch {mark}\n\thooksPath = .git/hooks\n"
            f'[filter "evil"]\n\tclean = touch {mark}\n\tsmudge = touch {mark}\n[diff]\n\texternal = touch {mark}\n'
        )
        work = await hive.until((await hive.submit(sha)).number, "built")
        assert "+import os" in work.diff
        kinds = {file.path: (file.change, file.binary) for file in work.files}
        assert kinds == {".gitattributes": ("added", False), "app.py": ("changed", False), "logo": ("added", True)}
        assert "Binary files" in work.diff
        await hive.approve(work.number)
        await hive.until(work.number, "deployed")
        assert not mark.exists()
        await hive.check()


async def test_files_of_every_kind_are_shown(hive: WorkHive) -> None:
    """Links, submodules, programs and names with control characters are taken, and named as what they are."""
    place = hive.clone()
    base = hive.commit({"run.sh": "#!/bin/sh\n", "a\nb\x1b[31m\xff": "x"})
    git(place, "checkout", "--quiet", base)
    (place / "link").symlink_to("/etc/passwd")
    (place / "run.sh").chmod(0o755)
    git(place, "add", "link", "run.sh")
    git(place, "update-index", "--add", "--cacheinfo", f"160000,{base},module")
    git(place, "commit", "--quiet", "--message", "Kinds")
    work = await hive.until((await hive.submit(git(place, "rev-parse", "HEAD"))).number, "built")
    kinds = {file.path: file.kind for file in work.files}
    assert (kinds["link"], kinds["run.sh"], kinds["module"]) == ("symlink", "executable", "submodule")
    assert "+/etc/passwd" in work.diff and "+Subproject commit" in work.diff
    (asked,) = await hive.messages("hm1nd")
    assert "\x1b" not in asked and "\nb" not in asked


async def test_unrelated_history_is_refused(hive: WorkHive) -> None:
    """A commit without any commit of the branch among its ancestors is refused, and so is one that the branch has."""
    place = hive.clone()
    git(place, "checkout", "--quiet", "--orphan", "other")
    git(place, "commit", "--quiet", "--allow-empty", "--message", "Other")
    with pytest.raises(HiveError) as unrelated:
        await hive.submit(git(place, "rev-parse", "HEAD"))
    assert unrelated.value.code == "not_descended"
    with pytest.raises(HiveError) as same:
        await hive.submit(hive.tip())
    assert same.value.code == "nothing_changed"


async def test_limits_count_what_is_new(layout: Layout) -> None:
    """The limits count the new versions of files in all commits, and nothing that the branch has."""
    async with opened(layout, work_bytes=20_000, work_files=3) as hive:
        await hive.until((await hive.submit(hive.commit({"a": "1", "b": "2", "c": "3"}))).number, "built")
        with pytest.raises(HiveError) as many:
            await hive.submit(hive.commit({str(number): str(number) for number in range(4)}))
        assert many.value.code == "too_many_files"
        with pytest.raises(HiveError) as large:
            await hive.submit(hive.commit({"x": "x" * 15_000, "y": "y" * 15_000}))
        assert large.value.code == "too_large"
        with pytest.raises(HiveError) as one:
            await hive.submit(hive.commit({"x": "x" * 30_000}))
        assert one.value.code == "too_large"


async def test_trees_that_unfold_without_end_are_refused(hive: WorkHive) -> None:
    """A few trees that name each other are refused by the number of their paths, before anybody has to read them."""
    place = hive.clone()
    entry = f"100644 blob {git(place, 'hash-object', '-w', '--stdin', feed='x')}"
    for _ in range(5):
        tree = git(place, "mktree", feed="".join(f"{entry}\t{name}\n" for name in "abcdefghij"))
        entry = f"040000 tree {tree}"
    sha = git(place, "commit-tree", "-p", hive.commit({}), "-m", "Unfold", entry.split()[2])
    with pytest.raises(HiveError, match="more than 50,000 paths") as refused:
        await hive.submit(sha)
    assert refused.value.code == "too_many_files"
    assert await hive.rows() == []


async def test_objects_of_others_are_not_read(hive: WorkHive) -> None:
    """A commit whose file is only in another proposal is refused, so nobody sees work by naming its ids."""
    secret = hive.commit({"secret": "hidden"})
    await hive.until((await hive.submit(secret)).number, "built")
    blob = git(hive.clone(), "rev-parse", f"{secret}:secret")
    place = hive.clone("bob")
    hive.commit({"b": "1"}, "bob")
    tree = git(place, "mktree", "--missing", feed=f"100644 blob {blob}\tstolen\n")
    stolen = git(place, "commit-tree", "-p", hive.tip(), "-m", "Mine", tree)
    with pytest.raises(HiveError) as refused:
        await hive.submit(stolen, BOB)
    assert refused.value.code in ("bad_object", "too_large", "no_such_commit")
    assert [row.by for row in await hive.rows()] == ["ada"]
