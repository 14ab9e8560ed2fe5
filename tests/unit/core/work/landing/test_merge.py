"""Merges by real git, confined where bubblewrap works: what lands is what was approved, or nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.git.objects import Person
from hive_core.work.landing import merge as module
from hive_core.work.landing.merge import Changed, Conflict, Merged, Merger
from tests.helpers.git_repos import git
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap
from tests.unit.core.work.work_repository import WorkRepository

FILE, PROGRAM, LINK, SUBMODULE = "100644", "100755", "120000", "160000"
ADA = Person("ada", "ada@hive")
LINES = "".join(f"line {number}\n" for number in range(30))
Files = dict[str, tuple[str, str]]


class Scene:
    """A bare repository with one commit of `base`, and merges in it."""

    def __init__(self, path: Path, *, confined: bool = True) -> None:
        self.path = path
        self.repository = WorkRepository(path / "work/web.git")
        bwrap = shutil.which("bwrap") if confined and not why_no_bubblewrap() else None
        self.merger = Merger(bwrap, path / "scratch")
        self.files: Files = {"a.txt": (FILE, LINES), "b.txt": (FILE, "b\n"), "dir/c.txt": (FILE, "c\n")}
        self.base = self.commit({})

    def commit(self, changes: dict[str, tuple[str, str] | None], *parents: str) -> str:
        """A commit of the base's files with these changes; None removes a file."""
        files = {**self.files, **changes}
        tree = self.repository.tree({name: entry for name, entry in files.items() if entry is not None})
        return self.repository.commit(tree, *(parents or ([self.base] if hasattr(self, "base") else [])))

    async def merge(self, branch: str, approved: str, message: str = "Merge web/3\n") -> Merged | Conflict | Changed:
        return await self.merger.merge(self.repository.path, branch, approved, self.base, message, ADA)

    def git(self, *arguments: str) -> str:
        return git(self.repository.path, *arguments)

    def objects(self) -> set[str]:
        listed = self.git("cat-file", "--batch-check", "--batch-all-objects")
        return {line.split()[0] for line in listed.splitlines()}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("confined", [True, False])
async def test_a_merge_has_both_sides(tmp_path: Path, confined: bool) -> None:
    """Changes of other paths are merged into a commit of both parents, which is stored whole and without a ref."""
    scene = Scene(tmp_path, confined=confined)
    branch = scene.commit({"b.txt": (FILE, "other\n")})
    approved = scene.commit({"new/run": (PROGRAM, "#!/bin/sh\n"), "link": (LINK, "/etc"), "dir/c.txt": None})
    refs = scene.git("for-each-ref")
    merged = await scene.merge(branch, approved, "Land web/3: a\x1b[31mtitle\n\nbody\n")
    assert isinstance(merged, Merged)
    assert scene.git("log", "-1", "--format=%P%n%T%n%an <%ae>%n%B", merged.commit).splitlines()[:3] == [
        f"{branch} {approved}",
        merged.tree,
        "ada <ada@hive>",
    ]
    assert "\x1b" not in scene.git("cat-file", "commit", merged.commit)
    changed = scene.git("diff-tree", "-r", "--name-status", "--no-renames", branch, merged.commit).splitlines()
    assert changed == ["D\tdir/c.txt", "A\tlink", "A\tnew/run"]
    assert scene.git("cat-file", "-p", f"{merged.commit}:b.txt") == "other"
    assert scene.git("for-each-ref") == refs
    scene.git("fsck", "--strict", "--no-dangling")
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_conflict_names_its_paths(scene: Scene) -> None:
    """Both sides have changed the same line, or one has removed what the other has changed: no object is kept."""
    branch = scene.commit({"a.txt": (FILE, LINES.replace("line 3\n", "theirs\n")), "b.txt": None})
    approved = scene.commit({"a.txt": (FILE, LINES.replace("line 3\n", "ours\n")), "b.txt": (FILE, "more\n")})
    before = scene.objects()
    assert await scene.merge(branch, approved) == Conflict(("a.txt", "b.txt"))
    assert scene.objects() == before


async def test_a_file_that_git_would_combine_goes_back(scene: Scene) -> None:
    """Changes of one file in distant lines merge cleanly, but to a content that nobody has approved."""
    branch = scene.commit({"a.txt": (FILE, LINES.replace("line 3\n", "theirs\n"))})
    approved = scene.commit({"a.txt": (FILE, LINES.replace("line 27\n", "ours\n")), "b.txt": (FILE, "mine\n")})
    before = scene.objects()
    assert await scene.merge(branch, approved) == Changed(("a.txt",))
    assert scene.objects() == before


async def test_the_mode_is_approved_too(scene: Scene) -> None:
    """A content from one side and a mode from the other are not what was approved."""
    branch = scene.commit({"b.txt": (PROGRAM, "b\n")})
    approved = scene.commit({"b.txt": (FILE, "changed\n")})
    assert await scene.merge(branch, approved) == Changed(("b.txt",))


async def test_what_the_branch_has_already_is_fine(scene: Scene) -> None:
    """A path that the branch has got meanwhile exactly as it was approved is no conflict."""
    branch = scene.commit({"b.txt": (FILE, "same\n"), "dir/c.txt": (FILE, "other\n")})
    approved = scene.commit({"b.txt": (FILE, "same\n"), "a.txt": (FILE, "mine\n")})
    merged = await scene.merge(branch, approved)
    assert isinstance(merged, Merged)
    assert scene.git("diff-tree", "-r", "--name-only", branch, merged.commit) == "a.txt"


async def test_nothing_but_the_proposal_is_merged(scene: Scene) -> None:
    """Commits below the base that the branch does not have would land with it unseen, so the merge goes back."""
    unseen = scene.commit({"unseen.txt": (FILE, "x\n")})
    base, scene.base = scene.base, unseen
    scene.files["unseen.txt"] = (FILE, "x\n")
    approved = scene.commit({"seen.txt": (FILE, "y\n")})
    branch = scene.commit({"unseen.txt": None, "b.txt": (FILE, "other\n")}, base)
    assert await scene.merge(branch, approved) == Changed(("unseen.txt",))


async def test_nothing_is_written_to_another_place(scene: Scene) -> None:
    """A change of a file that the branch has moved goes back, whether this git follows the move or not."""
    branch = scene.commit({"dir/c.txt": None, "moved/c.txt": (FILE, "c\n"), "a.txt": None, "z.txt": (FILE, LINES)})
    changed = scene.commit({"a.txt": (FILE, LINES + "more\n")})
    back = await scene.merge(branch, changed)
    assert not isinstance(back, Merged)
    assert "a.txt" in back.paths
    added = scene.commit({"dir/new.txt": (FILE, "new\n")})
    merged = await scene.merge(branch, added)
    assert isinstance(merged, Merged)
    assert scene.git("diff-tree", "-r", "--name-only", branch, merged.commit) == "dir/new.txt"


@pytest.mark.parametrize("driver", ["ours", "union", "binary", "evil", "text"])
async def test_attributes_of_the_work_have_no_effect(scene: Scene, driver: str, tmp_path: Path) -> None:
    """Whatever .gitattributes on either side say, conflicts are conflicts and nothing of them is run."""
    marker = tmp_path / "ran"
    attributes = (
        f"[attr]evil merge=evil -diff filter=evil\n* merge={driver} text eol=crlf conflict-marker-size=1\n* evil\n"
    )
    scene.files[".gitattributes"] = (FILE, attributes)
    scene.files["dir/.gitattributes"] = (FILE, attributes)
    scene.base = scene.commit({})
    for name in ("config", "attributes"):
        # What git would read where it runs, or in a working tree; the repository's own settings are the hive's.
        (tmp_path / name).write_text(f'[merge "evil"]\n\tdriver = touch {marker}; exit 0\n')
    branch = scene.commit({"a.txt": (FILE, LINES.replace("line 3\n", "theirs\n"))})
    approved = scene.commit({"a.txt": (FILE, LINES.replace("line 3\n", "ours\n"))})
    assert await scene.merge(branch, approved) == Conflict(("a.txt",))
    distant = scene.commit({"a.txt": (FILE, LINES.replace("line 27\n", "ours\n"))})
    assert await scene.merge(branch, distant) == Changed(("a.txt",))
    other = scene.commit({"b.txt": (FILE, "ours\n")})
    merged = await scene.merge(branch, other)
    assert isinstance(merged, Merged)
    assert scene.git("cat-file", "-p", f"{merged.commit}:b.txt") == "ours"
    assert not marker.exists()


async def test_settings_beside_the_repository_have_no_effect(scene: Scene, tmp_path: Path) -> None:
    """Drivers, attributes and hooks in the repository itself are not used: git runs in an empty one."""
    marker = tmp_path / "ran"
    (scene.repository.path / "info").mkdir(exist_ok=True)
    (scene.repository.path / "info/attributes").write_text("* merge=evil\n")
    with (scene.repository.path / "config").open("a") as config:
        config.write(f'[merge "evil"]\n\tdriver = touch {marker}; exit 0\n[merge]\n\tdefault = evil\n')
    branch = scene.commit({"a.txt": (FILE, "theirs\n")})
    approved = scene.commit({"a.txt": (FILE, "ours\n")})
    assert await scene.merge(branch, approved) == Conflict(("a.txt",))
    assert not marker.exists()


async def test_submodules_and_links_are_entries_like_others(scene: Scene) -> None:
    """A submodule or link that both sides change is a conflict; one that only the proposal changes lands as it is."""
    scene.files |= {"lib": (SUBMODULE, "1" * 40), "link": (LINK, "a.txt")}
    scene.base = scene.commit({})
    branch = scene.commit({"lib": (SUBMODULE, "2" * 40), "link": (LINK, "b.txt")})
    approved = scene.commit({"lib": (SUBMODULE, "3" * 40), "link": (LINK, "/etc/passwd")})
    assert await scene.merge(branch, approved) == Conflict(("lib", "link"))
    merged = await scene.merge(scene.commit({"b.txt": (FILE, "x\n")}), approved)
    assert isinstance(merged, Merged)
    assert scene.git("ls-tree", merged.commit, "lib").split()[:3] == [SUBMODULE, "commit", "3" * 40]
    assert scene.git("cat-file", "-p", f"{merged.commit}:link") == "/etc/passwd"


async def test_names_of_every_kind(scene: Scene) -> None:
    """Newlines, quotes, tabs and bytes that are no text in names are no trouble."""
    odd = ["new\nline", 'quo"te', "tab\t.txt", "-rf", ":(glob)**", "\u00fc", " "]
    branch = scene.commit(dict.fromkeys(odd, (FILE, "theirs\n")))
    approved = scene.commit(dict.fromkeys(odd, (FILE, "ours\n")))
    assert await scene.merge(branch, approved) == Conflict(tuple(sorted(odd)))
    raw = scene.repository.write("tree", b"100644 \xff\0" + bytes.fromhex(scene.repository.blob("x")))
    tree = scene.repository.raw_tree([("40000", "raw", raw)])
    merged = await scene.merge(scene.commit({"b.txt": (FILE, "x\n")}), scene.repository.commit(tree, scene.base))
    # The proposal removes everything else, among it what the branch has changed.
    assert merged == Conflict(("b.txt",))


async def test_objects_of_a_lender_are_read(tmp_path: Path) -> None:
    """A repository that borrows objects from the mirror merges commits that only the mirror has."""
    scene = Scene(tmp_path)
    borrower = WorkRepository(tmp_path / "work/borrower.git")
    (borrower.path / "objects/info").mkdir(exist_ok=True)
    (borrower.path / "objects/info/alternates").write_text(f"{scene.repository.path / 'objects'}\n")
    branch = scene.commit({"b.txt": (FILE, "other\n")})
    approved = scene.commit({"a.txt": (FILE, "mine\n")})
    merged = await scene.merger.merge(borrower.path, branch, approved, scene.base, "Merge\n", ADA)
    assert isinstance(merged, Merged)
    git(borrower.path, "fsck", "--strict", "--no-dangling", merged.commit)
    with pytest.raises(AssertionError):
        scene.git("cat-file", "-e", merged.commit)


async def test_unrelated_or_missing_commits_are_errors(scene: Scene) -> None:
    """What git cannot merge at all is an error and not a conflict, and nothing stays behind."""
    unrelated = scene.repository.commit(scene.repository.tree({"x": (FILE, "x")}))
    for approved in (unrelated, "1" * 40):
        with pytest.raises(HiveError) as failed:
            await scene.merge(scene.base, approved)
        assert failed.value.code == "merge_failed"
    assert list((scene.path / "scratch").iterdir()) == []


async def test_a_merge_that_takes_too_long_is_ended(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge has a time limit, after which none of its processes is left."""
    monkeypatch.setattr(module, "_SECONDS", 0.001)
    with pytest.raises(HiveError) as slow:
        await scene.merge(scene.commit({"b.txt": None}), scene.commit({"a.txt": None}))
    assert slow.value.code == "merge_slow"
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)  # noqa: ASYNC221
    assert str(scene.path) not in listed.stdout
    assert list((scene.path / "scratch").iterdir()) == []
