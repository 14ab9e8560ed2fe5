"""Refs: one transaction or none of it, locks that dead processes left, and reading without a process."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from hashlib import sha1
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.git import command, maintenance, refs
from hive_core.infra.git.maintenance import repair
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.infra.storage import file_lock
from tests.unit.core.infra.git.builders import PERSON, Plain, plant, tag


def test_all_refs_change_together(repository: Repository, commit: str, plain: Plain) -> None:
    """A tag and `main` move in one transaction, seen by plain git too."""
    new = repository.write_commit({"a": b"1"}, parents=[commit], author=PERSON, when=5, message="next")
    sha = repository.write_tag(tag("deployed/1", new))
    repository.update([RefChange("refs/tags/deployed/1", sha), RefChange("refs/heads/main", new, commit)])
    assert (repository.main(), repository.resolve("refs/tags/deployed/1")) == (new, sha)
    assert plain("rev-parse", "main", "deployed/1^{commit}").split() == [new, new]
    assert repository.resolve("refs/tags/deployed/2") is None


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_changes_if_one_ref_moved(repository: Repository, commit: str, plain: Plain, packed: bool) -> None:
    """`ref_moved` names the ref, whether it exists and should not, holds another object, or is gone."""
    (sha,) = plant(repository, tag("built/1", commit))
    if packed:
        plain("pack-refs", "--all")
    before = (repository.tags(), repository.main())
    good = RefChange("refs/tags/approved/1", repository.write_tag(tag("approved/1", commit)))
    for bad in (
        RefChange("refs/tags/built/1", sha),
        RefChange("refs/heads/main", commit, "1" * 40),
        RefChange("refs/tags/gone/1", sha, sha),
    ):
        for changes in ([good, bad], [bad, good]):
            with pytest.raises(HiveError, match=bad.ref) as refused:
                repository.update(changes)
            assert (refused.value.code, refused.value.status) == ("ref_moved", 409)
    assert (repository.tags(), repository.main()) == before


def test_of_many_at_once_one_wins(repository: Repository, commit: str) -> None:
    """Of threads that plant the same tag with different texts exactly one succeeds, the others hear `ref_moved`."""
    codes: list[str] = []

    def race(number: int) -> None:
        with Repository.open(repository.path) as own:
            try:
                plant(own, tag("approved/1", commit, f"by {number}"))
                codes.append("won")
            except HiveError as error:
                codes.append(error.code)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["ref_moved"] * 5 + ["won"]


def test_an_object_that_is_not_there_is_refused(repository: Repository) -> None:
    """A ref never points at nothing."""
    with pytest.raises(HiveError, match="nonexistent") as refused:
        repository.update([RefChange("refs/tags/built/1", "1" * 40)])
    assert refused.value.code == "git_failed"
    assert repository.tags() == {}


@pytest.mark.parametrize("ref", ["main", "HEAD", "refs/heads/../../config", "refs/tags/a\ncommit", "refs/tags/a b", ""])
def test_odd_refs_are_refused(repository: Repository, commit: str, ref: str) -> None:
    """Only full names of plain characters reach git or the file system."""
    with pytest.raises(HiveError) as refused:
        repository.update([RefChange(ref, commit)])
    assert refused.value.code == "bad_ref"
    with pytest.raises(HiveError):
        repository.resolve(ref)


@pytest.mark.parametrize("packed", [False, True])
def test_a_transaction_is_undone(repository: Repository, commit: str, plain: Plain, packed: bool) -> None:
    """Refs that a transaction has created are gone, and those that it has moved are back, however much was made."""
    if packed:
        plain("pack-refs", "--all")
    new = repository.write_commit({"a": b"1"}, parents=[commit], author=PERSON, when=5, message="next")
    names = ("approved/1", "deployed/1", "withdrawn/2")
    changes = [RefChange("refs/heads/main", new, commit)]
    changes += [RefChange(f"refs/tags/{name}", repository.write_tag(tag(name, new))) for name in names]
    for made in range(len(changes) + 1):
        repository.update(changes[:made])
        repository.revert(changes)
        assert (repository.main(), repository.tags()) == (commit, {})
    # What holds another object by now is left alone.
    other = repository.write_tag(tag("approved/1", new, "other\n"))
    repository.update([RefChange("refs/tags/approved/1", other)])
    repository.revert(changes)
    assert repository.tags() == {"approved/1": other}


def test_what_was_packed_meanwhile_is_undone(repository: Repository, commit: str, plain: Plain) -> None:
    """A ref that was created and packed is removed, and one of its name can be created again."""
    changes = [RefChange("refs/hive/mark", commit)]
    repository.update(changes)
    plain("pack-refs", "--all", "--prune")
    repository.revert(changes)
    assert repository.resolve("refs/hive/mark") is None
    repository.update(changes)


def test_undoing_needs_no_space(repository: Repository, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags are removed also if git cannot write; a ref that cannot be moved back stays."""
    new = repository.write_commit({"a": b"1"}, parents=[commit], author=PERSON, when=5, message="next")
    sha = repository.write_tag(tag("deployed/1", new))
    changes = [RefChange("refs/heads/main", new, commit), RefChange("refs/tags/deployed/1", sha)]
    repository.update(changes)
    monkeypatch.setattr(refs, "_run", lambda *_: command.GitResult(128, b"", "fatal: unable to write"))
    repository.revert(changes)
    assert (repository.main(), repository.tags()) == (new, {})


@pytest.mark.parametrize(
    ("status", "errors", "room", "code"),
    [
        (128, "fatal: unable to write", True, "git_failed"),
        (128, "fatal: unable to write", False, "disk_full"),
        (128, "error: file write error: Disk quota exceeded", True, "disk_full"),
        (128, "fatal: File too large", True, "disk_full"),
        (-signal.SIGXFSZ, "", True, "disk_full"),
    ],
)
def test_a_lack_of_space_is_recognised(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, status: int, errors: str, room: bool, code: str
) -> None:
    """By the words of git, by the signal that ended it, or by a trial to write in the repository."""
    monkeypatch.setattr(command, "has_room", lambda directory: room or directory != repository.path / "objects")
    assert command.failure(["update-ref"], status, errors, writes=repository.path).code == code


@pytest.mark.parametrize("lock", ["refs/tags/built/1.lock", "refs/heads/main.lock", "HEAD.lock"])
def test_a_lock_of_a_dead_process_does_not_block(repository: Repository, commit: str, plain: Plain, lock: str) -> None:
    """A lock file that no living git holds is taken away by the change that meets it."""
    plain("config", "core.filesRefLockTimeout", "10")
    path = repository.path / lock
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    new = repository.write_commit({"a": b"1"}, parents=[commit], author=PERSON, when=5, message="next")
    sha = repository.write_tag(tag("built/1", new))
    repository.update([RefChange("refs/tags/built/1", sha), RefChange("refs/heads/main", new, commit)])
    assert repository.main() == new
    assert not path.exists()


def test_repair_waits_for_the_living(repository: Repository) -> None:
    """While a git process of a killed daemon is alive, its locks stay; `repository_busy` says so."""
    with file_lock.shared_repository_lock(repository.path) as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    try:
        stale = repository.path / "packed-refs.lock"
        stale.touch()
        with pytest.raises(HiveError) as refused:
            repair(repository.path, seconds=0.05)
        assert refused.value.code == "repository_busy"
        assert stale.exists()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert repair(repository.path) == ["packed-refs.lock"]


def test_git_holds_the_lock_for_its_whole_life(repository: Repository, commit: str) -> None:
    """The lock is in git's own hands: closing the daemon's copy of it does not free it."""
    with file_lock.shared_repository_lock(repository.path) as lock:
        keep = command.run_in_background(repository.path, "cat-file", "--batch", feed=b"x\n" * 50_000, keep=[lock])
        running = keep.__enter__()
    with pytest.raises(HiveError), file_lock.exclusive_repository_lock(repository.path, seconds=0.05):
        pass
    assert sum(map(len, running.chunks())) == 50_000 * len("x missing\n")
    running.check()
    with file_lock.exclusive_repository_lock(repository.path, seconds=5):
        pass
    keep.__exit__(None, None, None)


def test_repair_removes_what_kills_and_power_cuts_leave(repository: Repository, commit: str, plain: Plain) -> None:
    """Locks, unfinished objects and refs without content go; everything else stays."""
    plant(repository, tag("built/1", commit))
    objects = repository.path / "objects"
    left = ["refs/tags/built/2", "refs/tags/built/1.lock", "gc.pid", "objects/tmp_obj_x", "objects/pack/tmp_pack_x"]
    (objects / "incoming-x" / "pack").mkdir(parents=True)
    (objects / "pack").mkdir(exist_ok=True)
    for name in left:
        (repository.path / name).touch()
    assert sorted(repository.repair()) == sorted([*left, "objects/incoming-x"])
    assert repository.repair() == []
    assert list(repository.tags()) == ["built/1"]
    assert plain("fsck", "--strict", "--full") == ""


def test_loose_and_packed_tags_are_read_alike(repository: Repository, commit: str, plain: Plain) -> None:
    """Names and objects are those that git tells, whether packed, loose, or both; locks and rubbish are no tags."""
    plant(repository, *[tag(f"built/{number}", commit) for number in range(5)])
    plain("pack-refs", "--all", "--no-prune")
    plain("update-ref", "refs/tags/built/3", repository.write_tag(tag("built/3", commit, "again")))
    plant(repository, tag("deployed/1", commit))
    (repository.path / "refs/tags/built/9.lock").touch()
    (repository.path / "refs/tags/rubbish").write_text("ref: refs/heads/main\n")
    (repository.path / "refs/tags/link").symlink_to(repository.path / "refs/heads/main")
    listed = plain(
        "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/tags/built", "refs/tags/deployed"
    )
    assert repository.tags() == dict(line.split() for line in listed.splitlines())
    assert {name: repository.resolve(f"refs/tags/{name}") for name in repository.tags()} == repository.tags()


def test_reading_and_writing_tags_starts_no_process(
    repository: Repository, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, shas and new objects need only files."""
    (sha,) = plant(repository, tag("built/1", commit))

    def refuse(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(command, "_start", refuse)
    assert repository.tags() == {"built/1": sha}
    assert repository.write_tag(tag("built/1", commit)) == sha
    assert repository.write_commit({"a": b""}, parents=[commit], author=PERSON, when=1, message="m")


def test_a_change_is_synced(repository: Repository, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before `update` returns, each ref's file and the directories that name it have been synced, and the object's."""
    synced: set[str] = set()
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    (sha,) = plant(repository, tag("built/1", commit))
    top = repository.path
    wanted = [top / "refs/tags/built/1", top / "refs/tags/built", top / "refs/tags", top / "objects" / sha[:2]]
    assert [str(path) for path in wanted if str(path) not in synced] == []
    assert any("tmp_obj_" in name for name in synced)


def test_the_whole_transaction_is_there_before_git_starts(commit: str) -> None:
    """What git reads ends in prepare and commit, so a killed daemon leaves it with all or nothing to do."""
    text = refs.transaction_script([RefChange("refs/tags/a/1", commit), RefChange("refs/heads/main", commit, commit)])
    assert text.decode().splitlines() == [
        "start",
        f"create refs/tags/a/1 {commit}",
        f"update refs/heads/main {commit} {commit}",
        "prepare",
        "commit",
    ]


def test_tidying_keeps_every_tag(repository: Repository, commit: str, plain: Plain) -> None:
    """When many tags are loose they are packed and all still there, next to new ones; else nothing is done."""
    assert repository.tidy() is False
    sha = repository.write_tag(tag("built/0", commit))
    feed = "".join(f"create refs/tags/built/{number} {sha}\n" for number in range(300))
    plain("update-ref", "--stdin", feed=feed.encode())
    before = repository.tags()
    assert repository.tidy() is True
    assert repository.tags() == before
    assert not list((repository.path / "refs/tags").rglob("[0-9]*"))
    plant(repository, tag("deployed/1", commit))
    assert len(repository.tags()) == 301


def test_tidying_keeps_what_has_no_ref_yet(
    repository: Repository, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects are packed when there are many; one that was just written and has no ref is not lost."""
    monkeypatch.setattr(maintenance, "LOOSE_OBJECTS", 1)
    in_17 = [
        text for text in (b"%d" % n for n in range(2_000)) if sha1(b"blob %d\0" % len(text) + text).digest()[0] == 0x17
    ]
    files = {f"n{number}": text for number, text in enumerate(in_17)}
    assert len(files) > 1
    fresh = repository.write_commit(files, parents=[], author=PERSON, when=1, message="m")
    assert repository.tidy() is True
    assert list((repository.path / "objects/pack").glob("*.pack"))
    assert repository.read(fresh, "n0", 100) == in_17[0]
    assert repository.read(commit, "lib.nix", 100) == b"2\n"


def test_no_hook_of_the_repository_runs(repository: Repository, commit: str, tmp_path: Path) -> None:
    """Even a hook that is there is left alone."""
    hook = repository.path / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    hook.chmod(0o755)
    plant(repository, tag("built/1", commit))
    assert not (tmp_path / "ran").exists()


def test_the_daemons_environment_does_not_reach_git(
    repository: Repository, commit: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variables that would send git elsewhere have no effect."""
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE", "GIT_TRACE", "GIT_EXEC_PATH", "GIT_NAMESPACE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    plant(repository, tag("built/1", commit))
    assert repository.read(commit, "lib.nix", 100) == b"2\n"
    assert not (tmp_path / "elsewhere").exists()
