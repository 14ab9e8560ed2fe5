"""Making repositories: the applied one, and the one an agent gets to work in. Whole or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.infra.files import disk_full_as_error, sync, sync_all
from hive_core.infra.git.command import checked
from hive_core.infra.git.names import MAIN, check_sha

CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = false
\thooksPath = /dev/null
\tfsmonitor = false
\tfsync = all
\tfilesRefLockTimeout = 1000
\tpackedRefsTimeout = 5000
[attr]
\ttree = 4b825dc642cb6eb9a060e54bf8d69288fbee4904
[transfer]
\tfsckObjects = true
[uploadpack]
\tallowAnySHA1InWant = true
[gc]
\tauto = 0
\tautoDetach = false
\tpruneExpire = 2.weeks.ago
"""
"""The applied repository's configuration. No reflogs: the tags are the history. `attr.tree` is the empty tree: git may
take attributes from HEAD otherwise, with which an agent could hide changes from who looks.
"""

_PARTS = ("HEAD", "config", "objects", "refs")


def check(path: Path) -> None:
    """Raise HiveError `repository_missing` or `repository_damaged` unless a repository is there."""
    if not path.is_dir():
        hint = "an agent that was never deployed has none; else restore it from a backup"
        raise HiveError("repository_missing", f"there is no repository {path.name}", hint=hint, status=404)
    missing = [part for part in _PARTS if not (path / part).exists()]
    if missing:
        why = f"{path.name} is not a git repository: {', '.join(missing)} is missing"
        raise HiveError("repository_damaged", why, hint="restore it from a backup", status=500)


def create_bare(path: Path) -> None:
    """Make the repository if it is not there; its configuration is put right in any case.

    A kill at any moment leaves it whole or absent. One caller at a time for one path. Raises HiveError
    `repository_damaged`, `disk_full`.
    """
    with disk_full_as_error(f"make {path.name}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and any(path.iterdir()):
            check(path)
            _set_config(path)
            return
        with _beside(path) as new:
            checked(new, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            (new / "config").write_text(CONFIG)


def clone(repository: Path, path: Path, commit: str | None) -> None:
    """Make `path` a repository of its own, its `main` checked out at `commit`; it may be an empty directory before.

    Nothing in it points back: no remote, no alternates, no shared files, no hooks, and only what the commit
    reaches. `commit` of None: what `main` is now.
    Whole or absent after a kill. One caller at a time for one path. Raises HiveError `clone_in_the_way` (409) if
    something is there, `git_failed` if there is no such commit, `disk_full`.
    """
    source = MAIN if commit is None else check_sha(commit)
    if path.is_symlink() or (path.exists() and not path.is_dir()) or (path.is_dir() and any(path.iterdir())):
        raise conflict("clone_in_the_way", f"{path.name} is there already and not empty", "move it away")
    with disk_full_as_error("copy a repository"), _beside(path) as new:
        git_dir = new / ".git"
        checked(git_dir, f"--work-tree={new}", "init", "--quiet", "--template=", "--initial-branch=main")
        only_files = ("-c", "protocol.allow=never", "-c", "protocol.file.allow=always")
        wanted = ("--quiet", "--no-tags", "--no-write-fetch-head", "--update-head-ok", "--no-auto-gc")
        checked(git_dir, *only_files, "fetch", *wanted, "--", str(repository.absolute()), f"{source}:{MAIN}")
        checked(git_dir, f"--work-tree={new}", "reset", "--hard", "--quiet", MAIN, "--")


def _set_config(path: Path) -> None:
    config = path / "config"
    if config.read_text(errors="replace") == CONFIG:
        return
    new = path / "config.new"
    new.write_text(CONFIG)
    sync(new)
    new.replace(config)
    sync(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new directory that becomes `path` when the block ends well."""
    new = path.with_name(f".{path.name}.new")
    # What a killed daemon left.
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    try:
        yield new
        sync_all(new)
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync(path.parent)
